"""The controller's end of the gateway (api/gateway.py): what a running attempt hands over before its pod ends."""
