"""Our signatures are those of Standard Webhooks: its published vectors, and its reference verifier accepts them."""

import base64
import json
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from domain.webhooks.signature_rules import message_id, secret_bytes, secret_text, signed_headers

FIRST_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECOND_KEY = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
OLD, NEW = b"o" * 32, b"n" * 32
EVENT_ID = UUID("0193a1b2-c3d4-7e5f-8091-a2b3c4d5e6f7")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sent(body: bytes, *keys: bytes, at_ms: int | None = None) -> dict[str, str]:
    return signed_headers(keys, message_id(EVENT_ID), now_ms() if at_ms is None else at_ms, body, "order.confirmed")


def accepts(key: bytes, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret_text(key)).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("secret", "identifier", "seconds", "body", "signature"),
    [
        (
            FIRST_KEY,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            SECOND_KEY,
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1649367553,
            b'{"email":"test@example.com","username":"test_user"}',
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ],
)
def test_the_published_vectors_are_reproduced(
    secret: str, identifier: str, seconds: int, body: bytes, signature: str
) -> None:
    headers = signed_headers([secret_bytes(secret)], identifier, seconds * 1000 + 999, body, "order.created")
    assert headers["webhook-id"] == identifier
    assert headers["webhook-timestamp"] == str(seconds)
    assert headers["webhook-signature"] == signature


def test_the_older_headers_sign_milliseconds_and_body() -> None:
    headers = signed_headers(
        [secret_bytes(FIRST_KEY)], "msg_1", 1614265330000, b'{"test": 2432232314}', "order.confirmed"
    )
    assert headers["X-Webhook-Event"] == "order.confirmed"
    assert headers["X-Webhook-Timestamp"] == "1614265330000"
    assert headers["X-Webhook-Signature"] == "sha256=8fec293a5336e3790b2f64f997286ea4f5eb1413fb8c4892070e0e4fa877de58"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        json.dumps({"city": "Århus, Åland, 東京, 🚢"}, ensure_ascii=False).encode(),
        json.dumps({"filler": "x" * 1_048_576}).encode(),
    ],
    ids=["small", "not ASCII", "1 MiB"],
)
def test_the_reference_verifier_accepts_what_we_send(body: bytes) -> None:
    assert accepts(NEW, body, sent(body, NEW))


@pytest.mark.parametrize("keys", [(NEW, OLD), (OLD, NEW)])
def test_while_keys_rotate_a_receiver_may_hold_either(keys: tuple[bytes, bytes]) -> None:
    headers = sent(b"{}", *keys)
    assert accepts(NEW, b"{}", headers)
    assert accepts(OLD, b"{}", headers)
    assert not accepts(b"x" * 32, b"{}", headers)


def test_tokens_come_newest_first_with_single_spaces() -> None:
    both = sent(b"{}", NEW, OLD, at_ms=1)["webhook-signature"]
    assert both == " ".join(sent(b"{}", key, at_ms=1)["webhook-signature"] for key in (NEW, OLD))
    assert both.count(" ") == 1
    assert sent(b"{}", NEW, OLD, at_ms=1)["X-Webhook-Signature"] == sent(b"{}", NEW, at_ms=1)["X-Webhook-Signature"]


def test_a_retry_keeps_the_id_and_is_signed_for_its_own_time() -> None:
    first, later = sent(b"{}", NEW, at_ms=now_ms() - 200_000), sent(b"{}", NEW)
    assert first["webhook-id"] == later["webhook-id"] == f"msg_{EVENT_ID.hex}"
    assert first["webhook-signature"] != later["webhook-signature"]
    assert accepts(NEW, b"{}", first)
    assert accepts(NEW, b"{}", later)
    assert not accepts(NEW, b"{}", first | {"webhook-timestamp": later["webhook-timestamp"]})


@pytest.mark.parametrize("drift_ms", [-301_500, 301_500])
def test_a_message_out_of_its_time_is_refused(drift_ms: int) -> None:
    assert not accepts(NEW, b"{}", sent(b"{}", NEW, at_ms=now_ms() + drift_ms))


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(header: str) -> None:
    assert not accepts(NEW, b"{}", {name: value for name, value in sent(b"{}", NEW).items() if name != header})


def test_anything_tampered_with_is_refused() -> None:
    body = b'{"total": 100}'
    headers = sent(body, NEW)
    assert not accepts(NEW, b'{"total": 900}', headers)
    assert not accepts(NEW, b'{"total":100}', headers)
    assert not accepts(NEW, body, headers | {"webhook-id": "msg_other"})
    assert not accepts(NEW, body, headers | {"webhook-signature": "v1,"})
    assert not accepts(NEW, body, headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")})


@given(
    keys=st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=5, unique=True),
    value=st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
    data=st.data(),
)
def test_every_live_key_verifies_every_body_and_no_changed_one(
    keys: list[bytes], value: object, data: st.DataObject
) -> None:
    body = json.dumps({"data": value}).encode()
    headers = sent(body, *keys)
    key = data.draw(st.sampled_from(keys))
    place = data.draw(st.integers(0, len(body) - 1))
    changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    assert accepts(key, body, headers)
    assert not accepts(key, changed, headers)


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_survives_being_shown(key: bytes) -> None:
    assert secret_bytes(secret_text(key)) == key


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_secret_has_24_to_64_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        secret_text(b"k" * size)
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        secret_bytes("whsec_" + base64.b64encode(b"k" * size).decode())


@pytest.mark.parametrize(
    "text",
    [
        FIRST_KEY.removeprefix("whsec_"),
        "WHSEC_" + FIRST_KEY.removeprefix("whsec_"),
        "whsec_" + "-_" * 20,
        FIRST_KEY[:-1],
        FIRST_KEY + "=",
        FIRST_KEY + "\n",
        "whsec_ " + FIRST_KEY.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"k" * 25).decode().replace("aw==", "ax=="),
        "whsec_Ä" + "A" * 39,
    ],
)
def test_a_secret_that_others_would_read_differently_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="a webhook secret") as refusal:
        secret_bytes(text)
    assert text.removeprefix("whsec_").strip() not in str(refusal.value)


@pytest.mark.parametrize(
    ("keys", "identifier", "body", "event_type"),
    [
        ([], "msg_1", b"{}", "order.created"),
        ([NEW], "msg_1", b"", "order.created"),
        ([NEW], "msg.1", b"{}", "order.created"),
        ([NEW], "", b"{}", "order.created"),
        ([NEW], "msg_ø", b"{}", "order.created"),
        ([NEW], "msg_1", b"{}", "order.created\r\nX-Injected: 1"),
        ([NEW], "msg_1", b"{}", ""),
    ],
)
def test_what_cannot_be_signed_without_ambiguity_is_refused(
    keys: list[bytes], identifier: str, body: bytes, event_type: str
) -> None:
    with pytest.raises(ValueError, match=r"webhook is signed|visible ASCII"):
        signed_headers(keys, identifier, 1, body, event_type)
