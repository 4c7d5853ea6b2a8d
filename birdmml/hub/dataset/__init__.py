"""A built dataset on the Hub: what is checked before it leaves, a copy without some licences, the upload."""
