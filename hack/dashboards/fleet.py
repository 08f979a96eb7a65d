"""The dashboard *fleet*: all plans, those in trouble first, and the operator itself."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from cutover.api.v1alpha1 import Phase
from dashboards.board import EKS, HEROKU, HURTS, OK, WAITS, WARNS, Board, Column, Query, chart, grid, number

UID = "cutover-fleet"
_HERE = 'namespace=~"$namespace"'
_TROUBLE = f"max by (namespace, plan) (cutover_trouble{{{_HERE}}})"
TROUBLE = {
    "0": ("none", OK),
    "1": ("waits", WAITS),
    "2": ("look at it", WARNS),
    "3": ("users may be harmed", HURTS),
}


def _of_plans(metric: str, *more: str) -> str:
    return f"max by ({', '.join(('namespace', 'plan', *more))}) ({metric}{{{_HERE}}})"


def _leg(service: str) -> str:
    """Return the requests per second of one leg of all plans."""
    return f"""
    sum(
      sum by (destination_service) (
        rate(istio_requests_total{{reporter="source", source_workload_namespace=~"$gateways"}}[$__rate_interval])
      )
      * on (destination_service) group_left
      max by (destination_service) (
        label_replace(cutover_plan_info{{{_HERE}}}, "destination_service", "$1", "{service}", "(.+)")
      )
    )
    """


def board() -> models.Dashboard:
    """Return the dashboard."""
    made = Board(
        UID,
        "Cutover: fleet",
        "All migrations from Heroku to EKS, those in trouble first. A plan's name leads to its own dashboard.",
        since="now-6h",
        links=(),
    )
    made.choose("namespace", "Namespace", "label_values(cutover_phase, namespace)", several=True)
    made.derive("gateways", f"label_values(cutover_plan_info{{{_HERE}}}, gateway_namespaces)")
    made.row(
        "At a glance",
        number(
            "Users may be harmed",
            "Plans held for a reason with which users may be harmed and the operator cannot help by itself. Above 0: act now.",
            Query(f"count({_TROUBLE} == 3) or vector(0)"),
            colours=((None, OK), (1, HURTS)),
        ),
        number(
            "To be looked at",
            "Plans that went back to Heroku, or do not go on without a person.",
            Query(f"count({_TROUBLE} == 2) or vector(0)"),
            colours=((None, OK), (1, WARNS)),
        ),
        number(
            "Under way",
            "Plans with a part of their traffic on EKS, or in the soak.",
            Query(f'count(cutover_phase{{{_HERE}, phase=~"Shifting|Soaking"}} == 1) or vector(0)'),
        ),
        number(
            "Completed",
            "Plans whose traffic is on EKS for good.",
            Query(f'count(cutover_phase{{{_HERE}, phase="Completed"}} == 1) or vector(0)'),
        ),
        number("Plans", "All plans that the operator manages.", Query(f"count({_of_plans('cutover_phase')})")),
        number(
            "Operator",
            "How many processes act: one. With 0 nothing is judged and nothing rolls back.",
            Query("sum(cutover_leader)"),
            colours=((None, HURTS), (1, OK), (2, WARNS)),
            nothing="not scraped",
        ),
    )
    made.row(
        "Plans",
        grid(
            "Plans, those in trouble first",
            "EKS is the percent of requests meant for EKS, seen what the gateway counts. Harm rolls back at 100 (or 1 over the"
            " plan's falseRollbackRate), safety of 20 is enough for the next step.",
            (
                Column("Trouble", _TROUBLE, states=TROUBLE),
                Column("EKS", _of_plans("cutover_desired_weight_percent"), "percent"),
                Column("Seen", _of_plans("cutover_observed_share_percent"), "percent"),
                Column("Harm", _of_plans("cutover_evidence_of_harm")),
                Column("Safety", _of_plans("cutover_evidence_of_safety")),
                Column("", _of_plans("cutover_phase", "phase")),
                Column("", _of_plans("cutover_held", "reason")),
            ),
            labels={"namespace": "Namespace", "plan": "Plan", "phase": "Phase", "reason": "Reason of the hold"},
            sort_by="Trouble",
            link="/d/cutover-plan?var-namespace=${__data.fields.Namespace}&var-plan=${__value.raw}&${__url_time_range}",
        ),
    )
    made.row(
        "Traffic",
        chart(
            "Weights",
            "The percent of each plan's requests that is meant for EKS. A fall to 0 is a rollback.",
            Query(_of_plans("cutover_desired_weight_percent"), "{{namespace}}/{{plan}}"),
            unit="percent",
            steps=True,
            maximum=100,
        ),
        chart(
            "Requests of all plans, by leg",
            "What gateways send to both legs: the migration as a whole.",
            Query(_leg("heroku_service"), HEROKU),
            Query(_leg("eks_service"), EKS),
            unit="reqps",
            stacked=True,
        ),
        chart(
            "Plans by phase",
            "How many plans are in each phase.",
            *(
                Query(f'count(cutover_phase{{{_HERE}, phase="{phase}"}} == 1) or vector(0)', str(phase))
                for phase in Phase
            ),
            stacked=True,
        ),
        chart(
            "Plans by reason of the hold",
            "Why plans wait. docs/holds.md says for each reason what to do.",
            Query(f"count by (reason) (cutover_held{{{_HERE}}} == 1)", "{{reason}}"),
            stacked=True,
        ),
    )
    made.row(
        "The operator",
        chart(
            "Delay of decisions",
            "From the end of a block of evidence to the decision on it: with writes, and without. A rollback is as late as this.",
            *(
                Query(f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket[$__rate_interval])))", name)
                for metric, q, name in (
                    ("cutover_decision_delay_seconds", 0.99, "with writes, 99 of 100"),
                    ("cutover_judging_delay_seconds", 0.99, "judging, 99 of 100"),
                    ("cutover_judging_delay_seconds", 0.5, "judging, half"),
                )
            ),
            unit="s",
        ),
        chart(
            "Failed requests of the operator",
            "To the API server by cause (conflict and gone are part of normal work), to Prometheus, and for custom SLOs.",
            Query("sum by (cause) (rate(cutover_api_errors_total[$__rate_interval]))", "API server: {{cause}}"),
            Query("sum(rate(cutover_prometheus_errors_total[$__rate_interval]))", "Prometheus"),
            Query("sum(rate(cutover_slo_query_errors_total[$__rate_interval]))", "custom SLOs"),
            unit="reqps",
        ),
        chart(
            "Age of the oldest reconcile",
            "Seconds since the last success, of the plan that waits longest. Up to 300 is normal for plans at rest.",
            Query("max(time() - cutover_last_reconcile_timestamp_seconds > 0)", "oldest"),
            unit="s",
        ),
        chart(
            "Notifications",
            "Decisions that wait to be sent to a receiver, and those that were dropped.",
            Query("sum by (receiver) (cutover_notifications_waiting)", "{{receiver}} waiting"),
            Query(
                "sum by (receiver, cause) (increase(cutover_notifications_dropped_total[$__rate_interval]))",
                "{{receiver}} dropped: {{cause}}",
            ),
        ),
        folded=True,
    )
    return made.build()
