#!/bin/sh
# Run by adnanh/webhook with the id and the title.
exec curl --silent --fail --header 'Content-Type: application/json' --data "{\"service_key\":\"00000000000000000000000000000000\",\
\"incident_key\":\"sentry-$1\",\"event_type\":\"trigger\",\"description\":\"$2\"}" "$PAGERDUTY_URL"
