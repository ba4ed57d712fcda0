"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sealed_values",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    counters = op.create_table(
        "change_counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "issuers", "value": 0}])
    op.create_table(
        "issuers",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("retired_at", TIME),
    )
    op.create_table(
        "issuer_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("issuer", sa.String(63), sa.ForeignKey("issuers.name"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("payload_bits", sa.Integer, nullable=False),
        sa.Column("secret_encrypted", sa.LargeBinary, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("retired_at", TIME),
        sa.UniqueConstraint("issuer", "version"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(63), nullable=False, unique=True),
        sa.Column("prefix", sa.String(16), nullable=False, unique=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("created", TIME, nullable=False, index=True),
        sa.Column("issuer", sa.String(63)),
        sa.Column("key_version", sa.Integer),
        sa.Column("payload_present", sa.Boolean, nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False, index=True),
        sa.Column("content_length", sa.Integer, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("checkpoint", sa.String, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary),
        *(sa.Column(f"band_{i}", sa.Integer, index=True) for i in range(4)),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("private_encrypted", sa.LargeBinary, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("retired_at", TIME),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", TIME, nullable=False, index=True),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(128)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("detail", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Nothing to go back to. Restore a backup of the database instead."""
    raise NotImplementedError("This is the first form of the tables: there is none before it.")
