"""Adapters: one function an upstream layout, from a batch of records to turns. A new layout is a file and a line here."""

from collections.abc import Callable, Mapping, Sequence

from curation.catalog.spec import Layout, Part
from curation.catalog.template import Record
from curation.sources.caption import caption
from curation.sources.columns import Adapted
from curation.sources.conversations import conversations
from curation.sources.instruction import instruction
from curation.sources.multiple_choice import multiple_choice
from curation.sources.qa import qa

Adapter = Callable[[Sequence[Record], Part], Adapted]

ADAPTERS: Mapping[Layout, Adapter] = {
    Layout.CAPTION: caption,
    Layout.CONVERSATIONS: conversations,
    Layout.INSTRUCTION: instruction,
    Layout.MULTIPLE_CHOICE: multiple_choice,
    Layout.QA: qa,
}
