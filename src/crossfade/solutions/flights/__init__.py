"""Will this flight arrive more than 15 minutes late? All 336,776 flights that left New York City in 2013."""
