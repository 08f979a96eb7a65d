"""Messages for Slack's incoming webhooks, and for compatible chats (Mattermost, Discord with ``/slack``).

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping

from cutover.adapters.notify.transport import Message
from cutover.domain.journal.notifications import Severity, fill
from cutover.domain.journal.outbox import Batch
from cutover.domain.texts import shorten

#: Notices of a batch that a message shows in full.
SHOWN = 5
#: Characters of a text; chats cut longer ones, or refuse them.
LONGEST_TEXT = 3500
#: An ``@`` that is not in the middle of an e-mail address. Chats take one behind a dot or a dash for a mention.
_MENTION = re.compile(r"(?<!\w)@")
_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
#: Slack's errors for a webhook. Nothing else of an answer is logged: it may repeat the request.
_SLACK_SAYS = frozenset(
    {
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "invalid_payload",
        "invalid_token",
        "no_active_hooks",
        "no_service",
        "no_team",
        "no_text",
        "posting_to_general_channel_denied",
        "team_disabled",
        "user_not_found",
    }
)


class SlackFormat:
    """Writes messages for a chat.

    Parameters
    ----------
    template
        Text of one notice, with placeholders.
    """

    #: People read one message for many notices rather than many messages.
    digests = True

    def __init__(self, template: str) -> None:
        self._template = template

    def write(self, batch: Batch) -> Message:
        """Return one message; of many notices it shows the most severe."""
        notices = batch.notices
        ranked = sorted(range(len(notices)), key=lambda number: (-notices[number].severity.rank, number))
        shown = sorted(ranked[:SHOWN])
        more = Counter(notices[number].severity for number in ranked[SHOWN:])
        longest = LONGEST_TEXT // len(shown)
        lines = [shorten(fill(self._template, notices[number], slack_escape), longest) for number in shown]
        if more:
            lines.append(f"and {more.total()} more ({_counts(more)}); see the plans' ledgers")
        if batch.lost:
            lines.append(f"{sum(batch.lost.values())} older ones were not told ({_counts(batch.lost)})")
        # Previews would fetch and show what a link in somebody's text leads to.
        payload = {"text": "\n".join(lines), "unfurl_links": False, "unfurl_media": False}
        return Message(_HEADERS, json.dumps(payload, ensure_ascii=False).encode())

    def reason(self, said: str) -> str:
        """Return the part of an error's body that may be logged: one of Slack's errors, or nothing."""
        return said if said in _SLACK_SAYS else ""


def slack_escape(text: str) -> str:
    """Return a text that a chat shows literally: without mentions, and without links that can be clicked.

    Chats make links of whatever has ``://``, and Mattermost and Discord mention people by a plain ``@``.
    """
    literal = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MENTION.sub("(at)", literal).replace("://", "[:]//")


def _counts(counts: Mapping[Severity, int]) -> str:
    return ", ".join(f"{counts[one]} {one}" for one in reversed(Severity) if counts.get(one))
