"""``cutover.dev/v1alpha1``: what people write in a MigrationPlan and what the operator answers.

Field names are the API's contract; every model is immutable. The CRD in ``crds/`` is generated from these models by
:mod:`cutover.api.crd`, so a rule that the API server can check by itself is stated here once, beside the field it
concerns.
"""

from cutover.api.durations import format_duration as format_duration
from cutover.api.durations import parse_duration as parse_duration
from cutover.api.model import GROUP as GROUP
from cutover.api.model import VERSION as VERSION
from cutover.api.v1alpha1.gates import BAD_OR_GOOD as BAD_OR_GOOD
from cutover.api.v1alpha1.gates import DEFAULT_SLOS as DEFAULT_SLOS
from cutover.api.v1alpha1.gates import HISTOGRAM_BOUNDS_MS as HISTOGRAM_BOUNDS_MS
from cutover.api.v1alpha1.gates import MOST_GATES as MOST_GATES
from cutover.api.v1alpha1.gates import BoundMs as BoundMs
from cutover.api.v1alpha1.gates import BoundSlo as BoundSlo
from cutover.api.v1alpha1.gates import ErrorsSlo as ErrorsSlo
from cutover.api.v1alpha1.gates import Gates as Gates
from cutover.api.v1alpha1.gates import LatencySlo as LatencySlo
from cutover.api.v1alpha1.gates import Mode as Mode
from cutover.api.v1alpha1.gates import Parameter as Parameter
from cutover.api.v1alpha1.gates import ParameterName as ParameterName
from cutover.api.v1alpha1.gates import Query as Query
from cutover.api.v1alpha1.gates import RatioSlo as RatioSlo
from cutover.api.v1alpha1.gates import ScrapeInterval as ScrapeInterval
from cutover.api.v1alpha1.gates import Slo as Slo
from cutover.api.v1alpha1.gates import TemplateKind as TemplateKind
from cutover.api.v1alpha1.gates import TemplateRef as TemplateRef
from cutover.api.v1alpha1.gates import ToleranceSpec as ToleranceSpec
from cutover.api.v1alpha1.plan import DEFAULT_STEPS as DEFAULT_STEPS
from cutover.api.v1alpha1.plan import KIND as KIND
from cutover.api.v1alpha1.plan import PLURAL as PLURAL
from cutover.api.v1alpha1.plan import Approval as Approval
from cutover.api.v1alpha1.plan import Baseline as Baseline
from cutover.api.v1alpha1.plan import ClockTime as ClockTime
from cutover.api.v1alpha1.plan import Freeze as Freeze
from cutover.api.v1alpha1.plan import MigrationPlan as MigrationPlan
from cutover.api.v1alpha1.plan import MigrationPlanSpec as MigrationPlanSpec
from cutover.api.v1alpha1.plan import OnBreach as OnBreach
from cutover.api.v1alpha1.plan import OnDelete as OnDelete
from cutover.api.v1alpha1.plan import OnTimeout as OnTimeout
from cutover.api.v1alpha1.plan import PreflightSpec as PreflightSpec
from cutover.api.v1alpha1.plan import Schedule as Schedule
from cutover.api.v1alpha1.plan import SkippedCheck as SkippedCheck
from cutover.api.v1alpha1.plan import Step as Step
from cutover.api.v1alpha1.plan import Steps as Steps
from cutover.api.v1alpha1.plan import Weekday as Weekday
from cutover.api.v1alpha1.plan import Window as Window
from cutover.api.v1alpha1.status import LEDGER_LENGTH as LEDGER_LENGTH
from cutover.api.v1alpha1.status import ApprovedStep as ApprovedStep
from cutover.api.v1alpha1.status import BacktestStatus as BacktestStatus
from cutover.api.v1alpha1.status import BacktestStep as BacktestStep
from cutover.api.v1alpha1.status import BaselineStatus as BaselineStatus
from cutover.api.v1alpha1.status import BoundBaseline as BoundBaseline
from cutover.api.v1alpha1.status import Checkpoint as Checkpoint
from cutover.api.v1alpha1.status import CheckStatus as CheckStatus
from cutover.api.v1alpha1.status import Condition as Condition
from cutover.api.v1alpha1.status import CustomSloEvidence as CustomSloEvidence
from cutover.api.v1alpha1.status import EvidenceStatus as EvidenceStatus
from cutover.api.v1alpha1.status import GateStatus as GateStatus
from cutover.api.v1alpha1.status import LedgerEntry as LedgerEntry
from cutover.api.v1alpha1.status import MigrationPlanStatus as MigrationPlanStatus
from cutover.api.v1alpha1.status import Phase as Phase
from cutover.api.v1alpha1.status import ResolvedTemplate as ResolvedTemplate
from cutover.api.v1alpha1.status import Share as Share
from cutover.api.v1alpha1.traffic import EksLeg as EksLeg
from cutover.api.v1alpha1.traffic import Gateways as Gateways
from cutover.api.v1alpha1.traffic import HerokuLeg as HerokuLeg
from cutover.api.v1alpha1.traffic import Hosts as Hosts
from cutover.api.v1alpha1.traffic import IstioTraffic as IstioTraffic
from cutover.api.v1alpha1.traffic import Ownership as Ownership
from cutover.api.v1alpha1.traffic import SecretKeyRef as SecretKeyRef
from cutover.api.v1alpha1.traffic import ServiceRef as ServiceRef
from cutover.api.v1alpha1.traffic import Traffic as Traffic
from cutover.api.v1alpha1.traffic import VirtualServiceRef as VirtualServiceRef
from cutover.api.v1alpha1.traffic import WorkloadRef as WorkloadRef
