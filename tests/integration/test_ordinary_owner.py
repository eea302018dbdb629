"""Who owns the database need not be able to make roles: an administrator has made them and granted them to him."""

from urllib.parse import urlsplit

import psycopg
import pytest

from domain.ids import new_id
from domain.roles import ROLES
from ops.migrate import upgrade
from ops.stack import Stack
from tests.integration.databases import a_database


@pytest.mark.usefixtures("template")  # which has made the roles, as another database of this server
def test_an_owner_who_can_make_no_roles_migrates_with_those_that_he_was_granted(stack: Stack) -> None:
    owner = f"owner_{new_id().hex}"
    with psycopg.connect(stack.database_url, autocommit=True) as admin, a_database(stack.database_url) as url:
        admin.execute(f"CREATE USER {owner} PASSWORD 'x'".encode())
        for role in ROLES:
            admin.execute(f"GRANT {role.name} TO {owner}".encode())
        parts = urlsplit(url)
        admin.execute(f"ALTER DATABASE {parts.path[1:]} OWNER TO {owner}".encode())
        theirs = parts._replace(netloc=f"{owner}:x@{parts.netloc.rpartition('@')[2]}").geturl()
        upgrade(theirs)
        with psycopg.connect(theirs) as connection:
            (owns,) = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'jobs'").fetchone() or (
                "",
            )
            assert owns == owner
    with psycopg.connect(stack.database_url, autocommit=True) as admin:
        admin.execute(f"DROP OWNED BY {owner}".encode())
        admin.execute(f"DROP USER {owner}".encode())
