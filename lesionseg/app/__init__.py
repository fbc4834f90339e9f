"""A page that runs an exported model in the browser, on the device itself, and the small server that hands it out."""
