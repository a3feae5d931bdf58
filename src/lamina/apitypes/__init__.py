"""Documents that cross the API's wire."""
