"""A QueryJobConfig with everything in it that can stand together, for both SDKs' scripts."""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

from google.cloud import bigquery


def full_config() -> bigquery.QueryJobConfig:
    dataset = bigquery.DatasetReference("the-project", "the_dataset")
    partitions = bigquery.TimePartitioning("DAY", "day", 86_400_000, require_partition_filter=True)
    external = bigquery.ExternalConfig("CSV")
    external.source_uris = ["gs://bucket/file.csv"]
    script = bigquery.ScriptOptions(
        statement_timeout_ms=60_000,
        statement_byte_budget=10**9,
        key_result_statement=bigquery.enums.KeyResultStatementKind.LAST,
    )
    return bigquery.QueryJobConfig(
        allow_large_results=True,
        clustering_fields=["country", "city"],
        connection_properties=[bigquery.ConnectionProperty("time_zone", "Europe/Zurich")],
        create_disposition="CREATE_IF_NEEDED",
        create_session=False,
        default_dataset=dataset,
        destination=dataset.table("results"),
        destination_encryption_configuration=bigquery.EncryptionConfiguration("kms/key"),
        dry_run=False,
        flatten_results=True,
        job_timeout_ms=600_000,
        labels={"team": "data"},
        maximum_billing_tier=2,
        maximum_bytes_billed=10**9,
        priority="BATCH",
        query_parameters=[
            bigquery.ScalarQueryParameter("fixed", "INT64", 42),
            bigquery.ArrayQueryParameter("several", "STRING", ["a", "b"]),
        ],
        schema_update_options=["ALLOW_FIELD_ADDITION"],
        script_options=script,
        table_definitions={"sheet": external},
        time_partitioning=partitions,
        udf_resources=[bigquery.UDFResource("resourceUri", "gs://bucket/udf.js")],
        use_legacy_sql=False,
        use_query_cache=False,
        write_disposition="WRITE_TRUNCATE",
    )
