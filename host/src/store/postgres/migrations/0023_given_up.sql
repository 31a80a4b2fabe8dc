-- How many deliveries a minute ended HANDLE_FAIL for good: the failed attempts
-- beside them may all be retried.
ALTER TABLE minute ADD COLUMN given_up bigint NOT NULL DEFAULT 0;
