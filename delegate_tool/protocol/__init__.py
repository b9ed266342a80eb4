"""What both sides of a delegation share: headers, money, results. Free of OpenHands and of the gateway."""
