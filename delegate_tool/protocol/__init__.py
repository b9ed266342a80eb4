"""What both sides of a delegation share: names, values, limits, codes, money, results. Free of OpenHands and the gateway."""
