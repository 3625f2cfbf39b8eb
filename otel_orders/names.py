"""Every attribute, event, metric, header and queue-argument name, once.

The names are API (users' queries hold them), so they live where a search finds them.  Knows nothing else.
"""

from __future__ import annotations

from typing import Final

# Attribute and log field names: the same on spans, log lines, event records and in the ledger.
ORDER_ID: Final = "order_id"
PARTNER_ID: Final = "partner_id"
FROM_STATUS: Final = "from_status"
TO_STATUS: Final = "to_status"
STATUS: Final = "status"
SERVICE: Final = "service"
ENV: Final = "env"
EVENT_TYPE: Final = "event_type"
ERROR_CODE: Final = "error_code"
TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
EVENT_ID: Final = "event_id"
OCCURRED_AT: Final = "occurred_at"
DURATION: Final = "duration"
ORDER_VERSION: Final = "order_version"
ORDER_BUCKET: Final = "order_bucket"

# What is known about a message beside what the conventions name: on its spans, and as a metric's label.
OUTCOME: Final = "outcome"
QUEUE: Final = "queue"
MESSAGE_ID: Final = "message_id"
EXCHANGE: Final = "exchange"
ROUTING_KEY: Final = "routing_key"
PUBLISHED_AT: Final = "published_at"
REDELIVERED: Final = "redelivered"
DELIVERY_COUNT: Final = "delivery_count"
DEAD_LETTERED: Final = "dead_lettered"
RETRY_ATTEMPT: Final = "retry_attempt"
MESSAGE_AGE_SECONDS: Final = "message_age_seconds"

# Who is served by an HTTP server: on its spans, and as a metric's label.
AUDIENCE: Final = "audience"

# Event types.
STATUS_CHANGED: Final = "order.status_changed"
TRANSITION_FAILED: Final = "order.transition_failed"
OBSERVED: Final = "order.observed"
MESSAGE_PUBLISHED: Final = "order.message_published"
MESSAGE_SETTLED: Final = "order.message_settled"
HEARTBEAT: Final = "service.heartbeat"

# What travels beside the W3C headers, in AMQP message headers and in HTTP.
TRACE_STARTED_AT_HEADER: Final = "otel-orders-trace-started-at"
PUBLISHED_AT_HEADER: Final = "otel-orders-published-at"

# Metrics of the services.
TRANSITIONS: Final = "order_transitions_total"
TRANSITION_FAILURES: Final = "order_transition_failures_total"
TRANSITION_DURATION: Final = "order_transition_duration_seconds"
MESSAGE_AGE: Final = "order_message_age_seconds"
MESSAGES_REDELIVERED: Final = "order_messages_redelivered_total"
MESSAGES_FROM_THE_FUTURE: Final = "order_messages_from_the_future_total"
SENT_MESSAGES: Final = "messaging_client_sent_messages_total"
CONSUMED_MESSAGES: Final = "messaging_client_consumed_messages_total"
MESSAGING_OPERATION_DURATION: Final = "messaging_client_operation_duration_seconds"
MESSAGING_PROCESS_DURATION: Final = "messaging_process_duration_seconds"
HTTP_SERVER_DURATION: Final = "http_server_request_duration_seconds"
HTTP_CLIENT_DURATION: Final = "http_client_request_duration_seconds"
SINK_FAILURES: Final = "otel_orders_sink_failures_total"

# Metrics of the ledger.
IN_STATUS: Final = "orders_in_status"
OLDEST_ENTERED: Final = "order_oldest_entered_timestamp_seconds"
STUCK_AFTER: Final = "order_stuck_after_seconds"
STUCK: Final = "orders_stuck"
ON_HOLD: Final = "orders_on_hold"
TIME_IN_STATUS: Final = "order_time_in_status_seconds"
MILESTONE: Final = "order_milestone_seconds"
REACHED: Final = "orders_reached_total"
SLA_MET: Final = "order_sla_met_total"
SLA_BREACHED: Final = "order_sla_breached_total"
SLA_OVERDUE: Final = "orders_sla_overdue"
SLA_AT_RISK: Final = "orders_sla_at_risk"
SERVICE_LAST_EVENT: Final = "order_service_last_event_timestamp_seconds"
FAILED_TRANSITIONS: Final = "order_failed_transitions_total"
LEDGER_EVENTS: Final = "otel_orders_ledger_events_total"
CORRECTIONS: Final = "order_corrections_total"
REMOVED: Final = "otel_orders_ledger_orders_removed_total"
UNREADABLE: Final = "otel_orders_ledger_unreadable_orders_total"
STAGE_STALLED: Final = "order_stage_stalled"
STAGE_BLIND: Final = "order_stage_blind"
QUEUE_OLDEST: Final = "order_queue_oldest_message_timestamp_seconds"
QUEUE_MESSAGES: Final = "order_queue_messages"
QUEUE_CONSUMERS: Final = "order_queue_consumers"
QUEUE_ACTIVE: Final = "order_queue_last_activity_timestamp_seconds"
MESSAGES_GONE: Final = "order_queue_messages_gone_total"
PROBE_UP: Final = "otel_orders_ledger_probe_up"
PROBE_SUCCEEDED: Final = "otel_orders_ledger_probe_success_timestamp_seconds"
FOLLOWED_READ: Final = "otel_orders_ledger_followed_read_timestamp_seconds"
STORE_ERRORS: Final = "otel_orders_ledger_store_errors_total"
OTHER_LIFECYCLE: Final = "otel_orders_ledger_other_lifecycle_instances"
