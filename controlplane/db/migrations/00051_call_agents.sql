-- +goose Up

-- A call outlives its agent.
ALTER TABLE calls ADD COLUMN agent_id text;
ALTER TABLE calls ADD COLUMN answered_by text;
ALTER TABLE calls ADD COLUMN detection_duration double precision;
CREATE INDEX calls_agent ON calls (account_id, agent_id, created_at, id) WHERE agent_id IS NOT NULL;

-- +goose Down

DROP INDEX calls_agent;
ALTER TABLE calls DROP COLUMN detection_duration;
ALTER TABLE calls DROP COLUMN answered_by;
ALTER TABLE calls DROP COLUMN agent_id;
