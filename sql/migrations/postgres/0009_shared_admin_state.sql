-- What the control planes of all replicas must know of each other. The same tables, columns and constraints as in
-- ../sqlite.

-- How often a password was guessed, by the hash of a network and a username; the row of zeros counts those of
-- everybody, in a window that began at `last_at`. What is old is swept.
CREATE TABLE login_attempts (
    account BYTEA NOT NULL,
    attempts BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    CONSTRAINT "login_attempts.account" PRIMARY KEY (account)
);

-- What creates answered that named their attempt with an Idempotency-Key, by the hash of that and of who asked.
-- `answer` is sealed: the secret of a new key is in it. What is old is deleted with the next insert, and swept.
CREATE TABLE idempotent_answers (
    attempt BYTEA NOT NULL,
    body_hash BYTEA NOT NULL,
    answer TEXT COLLATE "C" NOT NULL,
    answered_at BIGINT NOT NULL,
    CONSTRAINT "idempotent_answers.attempt" PRIMARY KEY (attempt)
);
CREATE INDEX idempotent_answers_answered_at ON idempotent_answers (answered_at);
