"""One visible loop, and the pure pieces it is made of."""
