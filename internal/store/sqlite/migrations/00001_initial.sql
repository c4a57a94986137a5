-- +goose Up

-- Unsigned numbers of the wire (epoch, timestamp) are kept as the signed integer
-- with the same bits and are compared in Go only. Positions, ids and times that
-- are compared here are below 2^63.

CREATE TABLE room (
    id      INTEGER PRIMARY KEY,
    uri     TEXT    NOT NULL UNIQUE,
    hub     TEXT    NOT NULL,
    is_hub  INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    head    INTEGER NOT NULL,
    last_ts INTEGER NOT NULL
) STRICT;

-- The log of all rooms, in order of arrival. A rowid table with unique indexes is
-- three times faster to append to than one clustered by (room_id, pos), and
-- four times smaller.
CREATE TABLE event (
    id      INTEGER PRIMARY KEY,
    room_id INTEGER NOT NULL,
    pos     INTEGER NOT NULL,
    ts      INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    hash    BLOB,
    body    BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_pos ON event (room_id, pos);
CREATE UNIQUE INDEX event_hash ON event (room_id, hash) WHERE hash IS NOT NULL;

CREATE TABLE dedup (
    room_id INTEGER NOT NULL,
    hash    BLOB    NOT NULL,
    pos     INTEGER NOT NULL,
    ts      INTEGER NOT NULL,
    PRIMARY KEY (room_id, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE room_state (
    id      INTEGER PRIMARY KEY,
    room_id INTEGER NOT NULL,
    key     TEXT    NOT NULL,
    value   BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX room_state_key ON room_state (room_id, key);

-- to_pos is 0 while the window is open.
CREATE TABLE member (
    id       INTEGER PRIMARY KEY,
    room_id  INTEGER NOT NULL,
    device   TEXT    NOT NULL,
    account  TEXT    NOT NULL,
    from_pos INTEGER NOT NULL,
    to_pos   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX member_window ON member (room_id, device, from_pos);
CREATE UNIQUE INDEX member_open ON member (room_id, device) WHERE to_pos = 0;
CREATE INDEX member_device ON member (device);

CREATE TABLE peer_window (
    id       INTEGER PRIMARY KEY,
    room_id  INTEGER NOT NULL,
    domain   TEXT    NOT NULL,
    from_pos INTEGER NOT NULL,
    to_pos   INTEGER NOT NULL,
    acked    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX peer_window_window ON peer_window (room_id, domain, from_pos);
CREATE UNIQUE INDEX peer_window_open ON peer_window (room_id, domain) WHERE to_pos = 0;
CREATE INDEX peer_window_domain ON peer_window (domain);

CREATE TABLE account (
    uri      TEXT    NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    data     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
    id           INTEGER PRIMARY KEY,
    uri          TEXT    NOT NULL UNIQUE,
    account      TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    public_key   BLOB    NOT NULL,
    cipher_suite INTEGER NOT NULL,
    certificate  BLOB    NOT NULL,
    created      INTEGER NOT NULL,
    revoked      INTEGER NOT NULL,
    data         BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX device_account ON device (account, uri);

-- device is empty until the code is spent.
CREATE TABLE enrolment (
    code_hash  BLOB    NOT NULL PRIMARY KEY,
    account    TEXT    NOT NULL,
    expires    INTEGER NOT NULL,
    device     TEXT    NOT NULL,
    public_key BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE key_package (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    device    TEXT    NOT NULL,
    ref       BLOB    NOT NULL UNIQUE,
    suite     INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    body      BLOB    NOT NULL
) STRICT;
CREATE INDEX key_package_device ON key_package (device, suite, id, not_after);
CREATE INDEX key_package_not_after ON key_package (not_after);

CREATE TABLE claim (
    id        INTEGER PRIMARY KEY,
    ref       BLOB    NOT NULL UNIQUE,
    target    TEXT    NOT NULL,
    room      TEXT    NOT NULL,
    not_after INTEGER NOT NULL,
    used      INTEGER NOT NULL
) STRICT;
CREATE INDEX claim_not_after ON claim (not_after);

-- The answers to claims, one row per device, so that one can be given again.
CREATE TABLE answer (
    id           INTEGER PRIMARY KEY,
    request_hash BLOB    NOT NULL,
    account      TEXT    NOT NULL,
    device       TEXT    NOT NULL,
    status       INTEGER NOT NULL,
    ref          BLOB,
    suite        INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    remaining    INTEGER NOT NULL,
    body         BLOB    NOT NULL,
    repeat_until INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX answer_request ON answer (request_hash, device);
CREATE INDEX answer_repeat_until ON answer (repeat_until);

CREATE TABLE mail (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT    NOT NULL,
    kind   INTEGER NOT NULL,
    room   TEXT    NOT NULL,
    pos    INTEGER NOT NULL,
    body   BLOB    NOT NULL
) STRICT;
CREATE INDEX mail_device ON mail (device, id);

CREATE TABLE mail_seen (
    device  TEXT    NOT NULL,
    hash    BLOB    NOT NULL,
    mail_id INTEGER NOT NULL,
    seen    INTEGER NOT NULL,
    PRIMARY KEY (device, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX mail_seen_seen ON mail_seen (seen);

CREATE TABLE request (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    domain     TEXT    NOT NULL,
    room       TEXT    NOT NULL,
    kind       INTEGER NOT NULL,
    device     TEXT    NOT NULL,
    hash       BLOB,
    not_before INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    body       BLOB    NOT NULL
) STRICT;
CREATE INDEX request_domain ON request (domain, id);
CREATE UNIQUE INDEX request_hash ON request (domain, hash) WHERE hash IS NOT NULL;

CREATE TABLE setting (
    key   TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
-- Going back would lose what only the newer form holds: restore a backup instead.
SELECT 1;
