"""The state machine of a task as a table: from which phase it goes to which, why, and the test that shows it.

`docs/generate.py` draws it into docs/lifecycle.md; tests/docs/test_lifecycle_page.py holds it against what the plan does.
"""

from typing import NamedTuple

START = "[*]"


class Transition(NamedTuple):
    """One arrow; `source` is `[*]` for a task that has no status yet."""

    source: str
    target: str
    why: str
    test: str


_PLAN = "tests/unit/lifecycle/test_plan.py"
_ENDS = "tests/unit/lifecycle/test_attempts.py"
_FALLS = "tests/unit/lifecycle/test_fallback.py"

TRANSITIONS = (
    Transition(START, "Queued", "it waits for something for 2 s", f"{_PLAN}::test_a_missing_thing_is_told_after_two_seconds_and_not_again"),
    Transition(START, "Starting", "its pod waits for something for 2 s", f"{_PLAN}::test_a_slow_start_is_told_once"),
    Transition(
        START,
        "Running",
        "its pod runs for 2 s",
        f"{_PLAN}::test_running_is_told_when_it_lasts_and_the_kubelet_would_have_told_an_end",
    ),
    Transition(START, "Suspended", "suspend", f"{_ENDS}::test_a_suspended_task_gets_no_pod_and_no_deadline"),
    Transition(START, "Succeeded", "it ends within 2 s", f"{_PLAN}::test_a_success_has_everything_in_one_status"),
    Transition(START, "Failed", "it is refused, or fails", f"{_PLAN}::test_a_refused_task_fails_before_any_pod"),
    Transition(START, "Cancelled", "cancel", f"{_ENDS}::test_cancelling_a_waiting_task_ends_it_at_once"),
    Transition("Queued", "Starting", "its turn: the pod is made", f"{_PLAN}::test_a_slow_start_is_told_once"),
    Transition(
        "Starting", "Running", "the container runs", f"{_PLAN}::test_running_is_told_when_it_lasts_and_the_kubelet_would_have_told_an_end"
    ),
    Transition(
        "Running",
        "Queued",
        "the attempt failed or was lost, another one follows",
        f"{_ENDS}::test_a_failure_of_the_tasks_own_is_followed_by_another_attempt_after_a_pause",
    ),
    Transition("Starting", "Queued", "its pod was taken away", f"{_ENDS}::test_what_the_cluster_does_is_counted_apart"),
    Transition(
        "Starting",
        "Queued",
        "its device class has no room",
        f"{_FALLS}::test_then_the_pod_is_deleted_and_its_end_counts_for_no_limit",
    ),
    Transition(
        "Starting",
        "Queued",
        "its node does not give it its device",
        f"{_FALLS}::test_a_device_that_its_node_does_not_give_sends_the_task_to_the_next_class_and_counts_nowhere",
    ),
    Transition(
        "Running",
        "Queued",
        "its device failed and there is another class",
        f"{_FALLS}::test_a_device_that_failed_in_the_pod_sends_the_task_to_the_next_class_and_counts_nowhere",
    ),
    Transition(
        "Running",
        "Suspended",
        "suspend, after the pod's end",
        f"{_ENDS}::test_suspending_stops_the_pod_with_its_grace_and_counts_for_no_limit",
    ),
    Transition("Queued", "Suspended", "suspend", f"{_ENDS}::test_a_suspended_task_gets_no_pod_and_no_deadline"),
    Transition("Suspended", "Queued", "suspend is taken back", f"{_ENDS}::test_a_task_goes_on_as_the_next_attempt_and_waits_from_then_on"),
    Transition("Running", "Succeeded", "every step ended well", f"{_PLAN}::test_a_success_has_everything_in_one_status"),
    Transition("Running", "Failed", "no further attempt", f"{_ENDS}::test_the_last_failure_ends_the_task_and_says_how_often_it_was_tried"),
    Transition("Queued", "Failed", "pendingDeadlineSeconds", f"{_ENDS}::test_the_pending_deadline_starts_anew_after_a_back_off"),
    Transition(
        "Starting",
        "Failed",
        "pendingDeadlineSeconds, or it can never start",
        f"{_PLAN}::test_an_image_that_can_never_run_fails_at_once_and_its_pod_goes",
    ),
    Transition(
        "Running",
        "Cancelled",
        "cancel, after the pod's end",
        f"{_ENDS}::test_cancelling_a_running_task_stops_its_pod_and_waits_for_its_last_words",
    ),
    Transition("Queued", "Cancelled", "cancel", f"{_ENDS}::test_cancelling_a_waiting_task_ends_it_at_once"),
)
"""Status is written late: a phase that lasts under two seconds is skipped, so every arrow may also start at an earlier phase."""
