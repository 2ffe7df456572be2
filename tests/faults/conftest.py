from tests.e2e.conftest import channel, gate, own_up, shared_up

__all__ = ["channel", "gate", "own_up", "shared_up"]
