"""The tables of those who may come in; see `models` for the rest."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from streamvault.db.ids import uuid7
from streamvault.db.models import Base


class User(Base):
    """Somebody who may sign in."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_name", text("lower(name)"), unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UserSession(Base):
    """A browser that is signed in. `id` is the SHA-256 of what its cookie holds."""

    __tablename__ = "user_sessions"
    __table_args__ = (Index("idx_user_sessions_user", "user_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    address: Mapped[str] = mapped_column(server_default="")
    agent: Mapped[str] = mapped_column(server_default="")


class ApiKey(Base):
    """What a script signs in with. Only the SHA-256 of the key is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("scope IN ('read', 'record', 'admin')", "scope"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    shown: Mapped[str]
    """Its first characters, by which its owner knows it again."""
    scope: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class Throttle(Base):
    """Tries that failed lately, by what they have in common: an account, an address, a device."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    free_at: Mapped[datetime]
    """When the next try is looked at."""
    forgotten_at: Mapped[datetime]


class AuditEntry(Base):
    """Who did what. Rows are added, never changed."""

    __tablename__ = "audit"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    """`user:<name>`, `key:<shown>` or `nobody`."""
    address: Mapped[str]
    action: Mapped[str]
    """Such as `login`, or `DELETE /api/recordings/{recording_id}`."""
    target: Mapped[str] = mapped_column(server_default="")
    outcome: Mapped[str]
    """`ok`, `refused` or a status code."""
