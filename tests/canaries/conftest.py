"""Clients to plant canaries into, and tokenizers with tokens in reserve, made in memory."""

from collections.abc import Callable, Sequence

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from confide.data.clinics import generate_clinics
from confide.data.examples import Chat, ChatMessage, ClientRecords, Instruction, Record, Text
from confide.data.partition import partition_records

RESERVED = tuple(f"<|reserved_special_token_{number}|>" for number in range(40))
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = (
    "The phone number of the patient is 555-1234, and the other number is 555-9876.",
    "Please call back at the number 555-5555 before the afternoon ends.",
    "wall lake snow star table tree king milk door city back ball bank bed big bird",
)

TokenizerMaker = Callable[[Sequence[str]], PreTrainedTokenizerBase]


@pytest.fixture(scope="session")
def clinics() -> list[ClientRecords]:
    """Three clinics of 60 rows each, of which 6 are held out."""
    records = generate_clinics(seed=0, num_clinics=3, num_letters=40, num_instructions=20)
    return partition_records(records, scheme="natural", seed=0, held_out=0.1)


def in_form(client: ClientRecords, form: str) -> ClientRecords:
    """A clinic's rows as conversations or plain text, without spans."""

    def change(record: Record) -> Record:
        assert isinstance(record.content, Instruction)
        asked = f"{record.content.instruction}\n{record.content.input}"
        if form == "text":
            return Record(record_id=record.record_id, content=Text(text=f"{asked}\n{record.content.response}"))
        messages = (
            ChatMessage(role="user", content=asked),
            ChatMessage(role="assistant", content=record.content.response),
        )
        return Record(record_id=record.record_id, content=Chat(messages=messages))

    if form == "instruction":
        return client
    return ClientRecords(
        name=client.name, train=tuple(map(change, client.train)), held_out=tuple(map(change, client.held_out))
    )


@pytest.fixture(scope="session")
def reform() -> Callable[[ClientRecords, str], ClientRecords]:
    """Turns a client's rows into "instruction", "chat" or "text"."""
    return in_form


@pytest.fixture(scope="session")
def make_bpe() -> TokenizerMaker:
    """Makes byte-level BPE in the manner of GPT-2 and Llama, digits merged, with special tokens of one's own."""

    def make(special_tokens: Sequence[str]) -> PreTrainedTokenizerBase:
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(SENTENCES, trainer)
        backend.add_special_tokens(
            [AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>", *special_tokens)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
            pad_token="<|im_end|>",
            chat_template=CHATML,
        )

    return make


@pytest.fixture(scope="session")
def metaspace() -> PreTrainedTokenizerBase:
    """BPE in the manner of SentencePiece: words start with a space mark, a BOS stands in front; tokens in reserve."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace()
    alphabet = [chr(code) for code in range(32, 127)] + ["\n", "▁"]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(SENTENCES, trainer)
    backend.add_special_tokens(
        [AddedToken(name, special=True) for name in ("<s>", "</s>", *(f"<unused{number}>" for number in range(40)))]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
