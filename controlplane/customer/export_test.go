package customer

// ReachedAt is reachedAt, for the plan of its query.
var ReachedAt = reachedAt
