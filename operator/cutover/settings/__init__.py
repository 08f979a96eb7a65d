"""The operator's settings, from environment variables (``CUTOVER_…``) and the files that they name."""

from cutover.settings.environment import PREFIX as PREFIX
from cutover.settings.environment import Settings as Settings
from cutover.settings.environment import read_settings as read_settings
from cutover.settings.files import SettingsError as SettingsError
from cutover.settings.files import Tls as Tls
from cutover.settings.notifications import ContentMode as ContentMode
from cutover.settings.notifications import Receiver as Receiver
from cutover.settings.notifications import ReceiverKind as ReceiverKind
from cutover.settings.notifications import ThrottleSpec as ThrottleSpec
from cutover.settings.notifications import read_receivers as read_receivers
from cutover.settings.prometheus import BasicAuthFiles as BasicAuthFiles
from cutover.settings.prometheus import NamedPrometheus as NamedPrometheus
from cutover.settings.prometheus import PrometheusServer as PrometheusServer
from cutover.settings.prometheus import PrometheusServers as PrometheusServers
from cutover.settings.prometheus import SigV4Scope as SigV4Scope
from cutover.settings.prometheus import read_servers as read_servers
