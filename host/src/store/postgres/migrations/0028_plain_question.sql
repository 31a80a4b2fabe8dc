-- Sessions plan without sequential scans where an index serves, so the question for
-- unsent keys needs no function of its own. Setting that for each call of the function
-- took ten times as long as the question.
DROP FUNCTION courier_unsent_lanes(text[], bytea[]);
