-- +goose Up
-- By what an agent is known that joined from a pod: it may come in again from
-- another pod that has the same. Null for all others.
ALTER TABLE agent ADD COLUMN kubernetes_identity text;
CREATE UNIQUE INDEX agent_kubernetes ON agent (kubernetes_identity) WHERE revoked_at IS NULL;
