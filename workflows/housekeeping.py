"""ConnectTwitch waits until somebody has entered the code at Twitch; CheckTokens and
RefreshPictures are hourly looks at what is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts
    from activities.pictures import Pictures
    from streamvault.contracts import DETECT_QUEUE, SignInInput, SignInState, TokensChecked

WAITING = "waiting"
# Longer than any device code lives; the activity itself knows when this one ends.
SIGN_IN_TIMEOUT = timedelta(hours=2)
# A beat comes with each question to Twitch, and Twitch may ask for 5 s more several times.
SIGN_IN_HEARTBEAT = timedelta(seconds=90)
SIGN_IN_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=5), maximum_interval=timedelta(seconds=30)
)
# Three tokens, ten seconds each, and as much again for the database and a refresh.
CHECK_TIMEOUT = timedelta(minutes=2)
# A minute of fetching, then what is on its way, and the tidying up.
PICTURES_TIMEOUT = timedelta(minutes=5)
# The next hour looks again anyway.
HOURLY_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=30),
    maximum_interval=timedelta(minutes=5),
    maximum_attempts=6,
)


@workflow.defn
class ConnectTwitch:
    @workflow.run
    async def run(self, order: SignInInput) -> SignInState:
        workflow.set_current_details("waiting until somebody enters the code at Twitch")
        state = SignInState(WAITING, order.interval_s)
        while state.state == WAITING:
            # A worker that stops gives the waiting back, to be gone on with by another one.
            state = await workflow.execute_activity_method(
                Accounts.await_sign_in,
                replace(order, interval_s=state.interval_s),
                task_queue=DETECT_QUEUE,
                start_to_close_timeout=SIGN_IN_TIMEOUT,
                heartbeat_timeout=SIGN_IN_HEARTBEAT,
                retry_policy=SIGN_IN_RETRY,
                summary="wait for the person",
            )
        workflow.set_current_details(state.state)
        return state


@workflow.defn
class CheckTokens:
    @workflow.run
    async def run(self) -> TokensChecked:
        checked = await workflow.execute_activity_method(
            Accounts.validate_tokens,
            task_queue=DETECT_QUEUE,
            start_to_close_timeout=CHECK_TIMEOUT,
            retry_policy=HOURLY_RETRY,
            summary="are the tokens still good?",
        )
        workflow.set_current_details("\n\n".join(checked.problems) or "every token is good")
        return checked


@workflow.defn
class RefreshPictures:
    @workflow.run
    async def run(self) -> None:
        fetched = await workflow.execute_activity_method(
            Pictures.refresh,
            task_queue=DETECT_QUEUE,
            start_to_close_timeout=PICTURES_TIMEOUT,
            retry_policy=HOURLY_RETRY,
            summary="avatars and the art of categories",
        )
        workflow.set_current_details(f"{fetched} fetched")
