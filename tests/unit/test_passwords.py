"""Passwords: Argon2id with the parameters of RFC 9106; one password however it is typed; nobody's is nobody's."""

from domain.tenants.passwords import hash_password, is_outdated, is_password
from domain.tenants.permission_rules import MAY_APPOINT, PERMISSIONS, ROLES, USERS_WRITE, may_appoint

PASSWORD = "correct horse"


def test_what_is_stored_is_argon2id_with_the_recommended_parameters_and_a_salt_of_its_own() -> None:
    hashed = hash_password(PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert hash_password(PASSWORD) != hashed
    assert is_password(hashed, PASSWORD)
    assert not is_password(hashed, PASSWORD + " ")
    assert not is_outdated(hashed)
    assert is_outdated("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")


def test_one_password_may_be_typed_in_several_ways() -> None:
    assert is_password(hash_password("caf\u00e9 cr\u00e8me"), "cafe\u0301 cre\u0300me")


def test_nobody_and_what_is_no_hash_have_no_password() -> None:
    assert not is_password(None, PASSWORD)
    assert not is_password("plain text", "plain text")


def test_nobody_appoints_somebody_above_himself() -> None:
    for role, below in MAY_APPOINT.items():
        assert may_appoint(role, ROLES[role]) == below
        assert all(ROLES[one] <= ROLES[role] for one in below)
    assert not MAY_APPOINT["admin"] & {"owner", "admin"}


def test_a_key_appoints_nobody_who_may_do_more_than_itself() -> None:
    assert may_appoint(None, frozenset({USERS_WRITE})) == frozenset()
    assert may_appoint(None, ROLES["viewer"] | {USERS_WRITE}) == {"viewer"}
    assert may_appoint(None, PERMISSIONS) == {"viewer", "operator"}
