/**
 * The tables of the stores in PostgreSQL, and one function for each command.
 *
 * Why READ COMMITTED is enough. A command is one statement, so one transaction, and takes the advisory lock of its key before
 * it reads. Its function is volatile, so each statement within has a snapshot of its own, taken after the lock was granted;
 * the lock of the command before is given up after its commit is visible. So the commands of a key run one after the other,
 * each on the state that the last one left. With REPEATABLE READ the snapshot is older than the lock: `enter` refuses it. A
 * command takes one lock, so none waits in a circle. Only dead rows are deleted without the lock of their key; the test
 * whether a row is dead is made again when a row turns out to have changed.
 */

/** How many dead rows a command removes that adds one. */
const mostDead = 8

/** How long a row stays that tells nothing any more, in microseconds. */
const slack = 60_000_000

/** The longest lease that is believed, in microseconds. */
const longest = 3_600_000_000

/** The longest name of a key, in bytes, that a row holds as it is. Of a longer one it holds the hash. */
const longestName = 1024

/**
 * The number of what is made here. It counts up with each change after a release: the schema of an older one is then brought up
 * to date, and that of a newer one is left as it is.
 */
const version = 1

/** The statement that makes everything in a schema, once. */
export const migration = (schema: string): string => {
  const s = `"${schema}"`
  const all = everything(schema, s)
  const count = (what: string) => all.split(`CREATE ${what} `).length - 1
  // What is gone alone is made again, too.
  return `DO $migrate$
DECLARE
  home oid;
  present int;
BEGIN
PERFORM pg_advisory_xact_lock(hashtextextended('effect-funnel:${schema}', 0));
home := to_regnamespace('${s}');
present := (SELECT max(substring(proname FROM '^version_([0-9]+)$')::int) FROM pg_proc WHERE pronamespace = home);
IF present > ${version} THEN RETURN; END IF;
IF present = ${version}
  AND ${count("OR REPLACE FUNCTION")} <= (SELECT count(*) FROM pg_proc WHERE pronamespace = home)
  AND ${count("TABLE IF NOT EXISTS")} <= (SELECT count(*) FROM pg_class WHERE relnamespace = home AND relkind = 'r')
  AND to_regclass('${s}.places') IS NOT NULL AND to_regclass('${s}.fences') IS NOT NULL
  THEN RETURN; END IF;
${all}
END $migrate$`
}

/** Deletes a few rows that are dead. Whether a row is dead is asked again once its lock is granted. */
const sweep = (table: string, key: string, isDead: string, order: string): string =>
  `DELETE FROM ${table} WHERE ${isDead} AND (${key}) IN (
    SELECT ${key} FROM ${table} WHERE ${isDead} ORDER BY ${order} LIMIT ${mostDead} FOR UPDATE SKIP LOCKED);`

const everything = (schema: string, s: string): string =>
  `-- Not with IF NOT EXISTS, for which even a role that has its schema would need the right to make one.
IF to_regnamespace('${s}') IS NULL THEN CREATE SCHEMA ${s}; END IF;

CREATE TABLE IF NOT EXISTS ${s}.rates (
  key text PRIMARY KEY, state bigint NOT NULL, anchor float8 NOT NULL, debts float8[] NOT NULL, dead float8 NOT NULL
);
CREATE INDEX IF NOT EXISTS rates_dead ON ${s}.rates (dead);
CREATE TABLE IF NOT EXISTS ${s}.penalties (key text PRIMARY KEY, since float8 NOT NULL, length float8 NOT NULL, dead float8 NOT NULL);
CREATE INDEX IF NOT EXISTS penalties_dead ON ${s}.penalties (dead);
CREATE TABLE IF NOT EXISTS ${s}.permits (
  key text NOT NULL, id text NOT NULL, weight float8 NOT NULL, lease float8 NOT NULL, until float8 NOT NULL, PRIMARY KEY (key, id)
);
CREATE INDEX IF NOT EXISTS permits_until ON ${s}.permits (until);
CREATE TABLE IF NOT EXISTS ${s}.queue (
  key text NOT NULL, party text NOT NULL, place bigint NOT NULL, need float8 NOT NULL, lease float8 NOT NULL, until float8 NOT NULL,
  PRIMARY KEY (key, party)
);
CREATE INDEX IF NOT EXISTS queue_place ON ${s}.queue (key, place);
CREATE INDEX IF NOT EXISTS queue_until ON ${s}.queue (until);
CREATE TABLE IF NOT EXISTS ${s}.flights (
  key text PRIMARY KEY, owner text NOT NULL, fence bigint NOT NULL, until float8 NOT NULL, lease float8 NOT NULL,
  taken boolean NOT NULL, rfence bigint, rexp float8, result text, dead float8 NOT NULL
);
CREATE INDEX IF NOT EXISTS flights_dead ON ${s}.flights (dead);
CREATE TABLE IF NOT EXISTS ${s}.waiters (key text NOT NULL, party text NOT NULL, dead float8 NOT NULL, PRIMARY KEY (key, party));
CREATE INDEX IF NOT EXISTS waiters_dead ON ${s}.waiters (dead);
CREATE SEQUENCE IF NOT EXISTS ${s}.places;
-- Fences go on from the time, so that they grow as well where a schema was lost and made anew.
IF to_regclass('${s}.fences') IS NULL THEN
  CREATE SEQUENCE ${s}.fences;
  PERFORM setval('${s}.fences', floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
END IF;

-- An index holds no row above a third of a page. Every other name begins with = or ~.
CREATE OR REPLACE FUNCTION ${s}.short(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
  SELECT CASE WHEN octet_length(name) > ${longestName} THEN '#' || encode(sha256(convert_to(name, 'UTF8')), 'hex') ELSE name END
$f$;

-- Waits for the turn of a key, and returns the time in microseconds.
CREATE OR REPLACE FUNCTION ${s}.enter(kind text, key text) RETURNS float8 LANGUAGE plpgsql VOLATILE AS $f$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'effect-funnel needs transactions that are READ COMMITTED, got %', current_setting('transaction_isolation');
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('${schema}:' || kind || ':' || key, 1));
  RETURN floor(extract(epoch FROM clock_timestamp()) * 1000000)::float8;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.tell(party text, message text) RETURNS void LANGUAGE sql VOLATILE AS $f$
  SELECT pg_notify(split_part(party, ' ', 2), split_part(party, ' ', 1) || ' ' || message)
$f$;

-- What is left of the debts of a row, each 0 if there is no row: greatest() passes over NULL.
CREATE OR REPLACE FUNCTION ${s}.drained(r ${s}.rates, cells int, now float8) RETURNS float8[] LANGUAGE sql IMMUTABLE AS $f$
  SELECT array_agg(greatest(0, r.debts[q] - greatest(0, now - r.anchor)) ORDER BY q) FROM generate_series(1, cells) q
$f$;

CREATE OR REPLACE FUNCTION ${s}.take(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  most float8 := (a->>'most')::float8;
  intervals float8[] := ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(a->'intervals') x);
  bursts float8[] := ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(a->'bursts') x);
  cells int := cardinality(bursts);
  now float8 := ${s}.enter('r', k);
  old ${s}.rates;
  debts float8[];
  waits float8[] := '{}';
  wait float8;
  retry float8 := 0;
  fresh bigint;
  n float8;
BEGIN
  SELECT * INTO old FROM ${s}.rates r WHERE r.key = k;
  debts := ${s}.drained(old, cells, now);
  FOR n IN SELECT x::float8 FROM jsonb_array_elements_text(a->'tokens') x LOOP
    wait := 0;
    FOR q IN 1..cells LOOP wait := greatest(wait, debts[q] + (n - bursts[q]) * intervals[q]); END LOOP;
    IF wait > most THEN
      retry := wait - most;
      EXIT;
    END IF;
    FOR q IN 1..cells LOOP debts[q] := greatest(debts[q], wait) + n * intervals[q]; END LOOP;
    waits := waits || wait;
  END LOOP;
  IF cardinality(waits) > 0 OR old.anchor > now THEN
    fresh := ${s}.put_rate(k, old.key IS NULL, now, debts);
  END IF;
  RETURN jsonb_build_object('waits', waits, 'retry', retry, 'debts', debts,
    'before', coalesce(old.state::text, ''), 'after', coalesce(fresh, old.state)::text);
END $f$;

CREATE OR REPLACE FUNCTION ${s}.put_rate(k text, is_new boolean, now float8, d float8[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  fresh bigint := nextval('${s}.places');
  rest float8 := now + (SELECT max(x) FROM unnest(d) x);
BEGIN
  INSERT INTO ${s}.rates VALUES (k, fresh, now, d, rest)
    ON CONFLICT (key) DO UPDATE SET state = fresh, anchor = now, debts = d, dead = rest;
  IF is_new THEN ${sweep(`${s}.rates`, "key", "dead < now", "dead")} END IF;
  RETURN fresh;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.shift_rate(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  intervals float8[] := ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(a->'intervals') x);
  bursts float8[] := ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(a->'bursts') x);
  back float8 := (a->>'back')::float8;
  penalty float8 := (a->>'penalty')::float8;
  now float8 := ${s}.enter('r', k);
  old ${s}.rates;
  debts float8[];
BEGIN
  IF a ? 'reset' THEN
    DELETE FROM ${s}.rates r WHERE r.key = k;
    RETURN NULL;
  END IF;
  SELECT * INTO old FROM ${s}.rates r WHERE r.key = k;
  -- What came last may be taken away as if it had never come; what others have been granted behind it may not move.
  IF back IS NOT NULL AND coalesce(old.state::text, '') <> a->>'state' THEN RETURN NULL; END IF;
  debts := ${s}.drained(old, cardinality(bursts), now);
  FOR q IN 1..cardinality(bursts) LOOP
    debts[q] := CASE WHEN back IS NOT NULL THEN greatest(0, debts[q] - back * intervals[q])
      ELSE greatest(debts[q], penalty + (bursts[q] - 1) * intervals[q]) END;
  END LOOP;
  PERFORM ${s}.put_rate(k, old.key IS NULL, now, debts);
  RETURN NULL;
END $f$;

-- Drops what has ended. A clock that stepped back keeps nothing for longer than its lease.
CREATE OR REPLACE FUNCTION ${s}.clean(k text, now float8) RETURNS void LANGUAGE plpgsql VOLATILE AS $f$
BEGIN
  DELETE FROM ${s}.permits p WHERE p.key = k AND p.until <= now;
  DELETE FROM ${s}.queue w WHERE w.key = k AND w.until <= now;
  UPDATE ${s}.permits p SET until = now + least(lease, ${longest}) WHERE p.key = k AND p.until > now + least(lease, ${longest});
  UPDATE ${s}.queue w SET until = now + least(lease, ${longest}) WHERE w.key = k AND w.until > now + least(lease, ${longest});
END $f$;

CREATE OR REPLACE FUNCTION ${s}.sweep(now float8) RETURNS void LANGUAGE plpgsql VOLATILE AS $f$
BEGIN
  ${sweep(`${s}.permits`, "key, id", `until < now - ${slack}`, "until")}
  ${sweep(`${s}.queue`, "key, party", `until < now - ${slack}`, "until")}
  ${sweep(`${s}.penalties`, "key", "dead < now", "dead")}
END $f$;

CREATE OR REPLACE FUNCTION ${s}.total(k text) RETURNS float8 LANGUAGE sql VOLATILE AS $f$
  SELECT coalesce(sum(weight), 0) FROM ${s}.permits p WHERE p.key = k
$f$;

-- What is left of the free weight for me, once those ahead of me have theirs. They hear of it if they are to be told.
CREATE OR REPLACE FUNCTION ${s}.pass(k text, free float8, me text, told boolean) RETURNS float8 LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  w record;
BEGIN
  FOR w IN SELECT party, need FROM ${s}.queue q WHERE q.key = k ORDER BY place LOOP
    EXIT WHEN free <= 0 OR w.party = me;
    IF told THEN PERFORM ${s}.tell(w.party, 'P'); END IF;
    free := free - greatest(1, w.need);
  END LOOP;
  RETURN free;
END $f$;

-- The rest of the penalty. A clock that stepped back prolongs it by its own length at most.
CREATE OR REPLACE FUNCTION ${s}.penalty(k text, now float8) RETURNS float8 LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  p ${s}.penalties;
BEGIN
  SELECT * INTO p FROM ${s}.penalties x WHERE x.key = k;
  IF NOT FOUND THEN RETURN 0; END IF;
  IF p.since > now THEN UPDATE ${s}.penalties x SET since = now, dead = now + length WHERE x.key = k; END IF;
  RETURN greatest(0, p.length - greatest(0, now - p.since));
END $f$;

CREATE OR REPLACE FUNCTION ${s}.put_permit(k text, permit text, w float8, l float8, now float8) RETURNS void
LANGUAGE sql VOLATILE AS $f$
  INSERT INTO ${s}.permits VALUES (k, permit, w, l, now + l)
    ON CONFLICT (key, id) DO UPDATE SET weight = excluded.weight, lease = excluded.lease, until = excluded.until
$f$;

CREATE OR REPLACE FUNCTION ${s}.acquire(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  me text := a->>'party';
  most float8 := (a->>'limit')::float8;
  leasing float8 := (a->>'lease')::float8;
  now float8 := ${s}.enter('p', k);
  rest float8 := ${s}.penalty(k, now);
  free float8;
  granted int := 0;
  need float8 := 0;
  missing float8;
  spot bigint;
  p record;
BEGIN
  PERFORM ${s}.clean(k, now);
  IF rest > 0 THEN
    -- What a command that was lost has taken is nobody's.
    DELETE FROM ${s}.permits x WHERE x.key = k AND x.id IN (SELECT y->>'id' FROM jsonb_array_elements(a->'permits') y);
    DELETE FROM ${s}.queue w WHERE w.key = k AND w.party = me;
    RETURN jsonb_build_object('granted', 0, 'poll', leasing, 'penalty', rest);
  END IF;
  free := ${s}.pass(k, most - ${s}.total(k), me, false);
  FOR p IN SELECT y->>'id' AS id, (y->>'weight')::float8 AS weight FROM jsonb_array_elements(a->'permits') y LOOP
    missing := CASE WHEN EXISTS (SELECT FROM ${s}.permits x WHERE x.key = k AND x.id = p.id) THEN 0 ELSE p.weight END;
    IF missing > 0 AND missing > free THEN
      need := p.weight;
      EXIT;
    END IF;
    PERFORM ${s}.put_permit(k, p.id, p.weight, leasing, now);
    free := free - missing;
    granted := granted + 1;
  END LOOP;
  SELECT place INTO spot FROM ${s}.queue w WHERE w.key = k AND w.party = me;
  IF need = 0 THEN
    DELETE FROM ${s}.queue w WHERE w.key = k AND w.party = me;
  ELSE
    -- Served in part means behind the others again.
    INSERT INTO ${s}.queue VALUES (
        k, me, CASE WHEN spot IS NULL OR granted > 0 THEN nextval('${s}.places') ELSE spot END, need, leasing, now + leasing)
      ON CONFLICT (key, party) DO UPDATE
        SET place = excluded.place, need = excluded.need, lease = excluded.lease, until = excluded.until;
  END IF;
  -- My place may have been what held the next ones back.
  IF spot IS NOT NULL AND (need = 0 OR granted > 0) THEN PERFORM ${s}.pass(k, most - ${s}.total(k), me, true); END IF;
  IF granted > 0 AND random() < 0.125 THEN PERFORM ${s}.sweep(now); END IF;
  RETURN jsonb_build_object('granted', granted, 'penalty', 0, 'poll', greatest(0, least(
    leasing,
    (SELECT min(until) - now FROM ${s}.permits x WHERE x.key = k),
    (SELECT min(until) - now FROM ${s}.queue w WHERE w.key = k AND w.party <> me))));
END $f$;

CREATE OR REPLACE FUNCTION ${s}.renew_permits(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  leasing float8 := (a->>'lease')::float8;
  now float8 := ${s}.enter('p', k);
  free float8;
  had float8;
  lost jsonb := '[]';
  p record;
BEGIN
  PERFORM ${s}.clean(k, now);
  free := (a->>'limit')::float8 - ${s}.total(k);
  FOR p IN SELECT y->>'id' AS id, (y->>'weight')::float8 AS weight FROM jsonb_array_elements(a->'permits') y LOOP
    SELECT weight INTO had FROM ${s}.permits x WHERE x.key = k AND x.id = p.id;
    IF FOUND THEN
      -- The command that returned a part of it may have been lost; one that is on its way twice takes nothing back.
      PERFORM ${s}.put_permit(k, p.id, least(p.weight, had), leasing, now);
    ELSIF p.weight <= free THEN
      -- A permit that was forgotten is held again while there is room.
      PERFORM ${s}.put_permit(k, p.id, p.weight, leasing, now);
      free := free - p.weight;
    ELSE
      lost := lost || to_jsonb(p.id);
    END IF;
  END LOOP;
  RETURN lost;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.release_permits(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  now float8 := ${s}.enter('p', k);
  before float8 := ${s}.total(k);
BEGIN
  DELETE FROM ${s}.permits x USING jsonb_array_elements(a->'permits') y
    WHERE x.key = k AND x.id = y->>'id' AND (y->>'weight')::float8 = 0;
  UPDATE ${s}.permits x SET weight = (y->>'weight')::float8 FROM jsonb_array_elements(a->'permits') y
    WHERE x.key = k AND x.id = y->>'id' AND (y->>'weight')::float8 < x.weight;
  PERFORM ${s}.pass(k, before - ${s}.total(k), NULL, true);
  RETURN NULL;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.penalize(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  micros float8 := (a->>'micros')::float8;
  now float8 := ${s}.enter('p', k);
BEGIN
  IF micros <= ${s}.penalty(k, now) THEN RETURN NULL; END IF;
  INSERT INTO ${s}.penalties VALUES (k, now, micros, now + micros)
    ON CONFLICT (key) DO UPDATE SET since = excluded.since, length = excluded.length, dead = excluded.dead;
  -- They learn of it when they ask.
  PERFORM ${s}.pass(k, 'Infinity', NULL, true);
  RETURN NULL;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.join_flight(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  me text := a->>'owner';
  mine text := a->>'party';
  leasing float8 := (a->>'lease')::float8;
  wanted bigint := (a->>'after')::bigint;
  now float8 := ${s}.enter('f', k);
  f ${s}.flights;
  til float8;
BEGIN
  SELECT * INTO f FROM ${s}.flights x WHERE x.key = k;
  IF f.rexp <= now THEN
    UPDATE ${s}.flights x SET rfence = NULL, rexp = NULL, result = NULL WHERE x.key = k;
    f.rfence := NULL;
  END IF;
  IF wanted IS NOT NULL AND f.rfence >= wanted THEN
    DELETE FROM ${s}.waiters w WHERE w.key = k AND w.party = mine;
    RETURN jsonb_build_object('tag', 'D', 'fence', f.rfence, 'payload', f.result);
  END IF;
  -- A clock that stepped back keeps nothing for longer than its lease.
  til := least(f.until, now + least(f.lease, ${longest}));
  IF f.owner = me AND til > 0 THEN
    -- It has run with this fence, so the next run gets another.
    IF wanted IS NOT NULL AND f.fence <= wanted THEN f.fence := greatest(f.fence + 1, nextval('${s}.fences')); END IF;
    UPDATE ${s}.flights x SET fence = f.fence, until = now + leasing, lease = leasing, dead = greatest(dead, now + leasing + ${slack})
      WHERE x.key = k;
    RETURN jsonb_build_object('tag', 'L', 'fence', f.fence);
  END IF;
  IF f.key IS NOT NULL AND til > now THEN
    IF til < f.until THEN UPDATE ${s}.flights x SET until = til WHERE x.key = k; END IF;
    INSERT INTO ${s}.waiters VALUES (k, mine, now + greatest(leasing, ${slack}))
      ON CONFLICT (key, party) DO UPDATE SET dead = excluded.dead;
    RETURN jsonb_build_object('tag', 'F', 'fence', f.fence, 'rest', til - now);
  END IF;
  f.fence := greatest(coalesce(f.fence, 0) + 1, nextval('${s}.fences'));
  DELETE FROM ${s}.waiters w WHERE w.key = k AND w.party = mine;
  INSERT INTO ${s}.flights VALUES (k, me, f.fence, now + leasing, leasing, false, NULL, NULL, NULL, now + leasing + ${slack})
    ON CONFLICT (key) DO UPDATE SET owner = me, fence = f.fence, until = now + leasing, lease = leasing,
      taken = flights.taken OR flights.owner <> '', dead = greatest(flights.dead, excluded.dead);
  IF f.key IS NULL THEN
    ${sweep(`${s}.flights`, "key", "dead < now", "dead")}
    ${sweep(`${s}.waiters`, "key, party", "dead < now", "dead")}
  END IF;
  RETURN jsonb_build_object('tag', 'L', 'fence', f.fence);
END $f$;

CREATE OR REPLACE FUNCTION ${s}.renew_flight(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  leasing float8 := (a->>'lease')::float8;
  mine bigint := (a->>'fence')::bigint;
  now float8 := ${s}.enter('f', k);
BEGIN
  -- With the state gone those who waited are forgotten, and will ask again: the result is kept for them.
  INSERT INTO ${s}.flights VALUES (k, a->>'owner', mine, now + leasing, leasing, true, NULL, NULL, NULL, now + leasing + ${slack})
    ON CONFLICT (key) DO UPDATE SET until = excluded.until, lease = excluded.lease, dead = greatest(flights.dead, excluded.dead)
    WHERE flights.owner = excluded.owner AND flights.fence = mine;
  RETURN to_jsonb(FOUND);
END $f$;

CREATE OR REPLACE FUNCTION ${s}.wake(k text, message text) RETURNS int LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  woken int;
BEGIN
  WITH w AS (DELETE FROM ${s}.waiters x WHERE x.key = k RETURNING party)
    SELECT count(${s}.tell(party, message)::text) INTO woken FROM w;
  RETURN woken;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.complete_flight(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  mine bigint := (a->>'fence')::bigint;
  now float8 := ${s}.enter('f', k);
  expiry float8 := now + (a->>'retain')::float8;
  f ${s}.flights;
BEGIN
  -- Without a row all of it is NULL, and no condition on it holds.
  SELECT * INTO f FROM ${s}.flights x WHERE x.key = k;
  IF f.rfence = mine THEN RETURN 'true'; END IF;
  IF f.fence <> mine OR f.owner <> a->>'owner' THEN RETURN 'false'; END IF;
  -- With the state gone those who waited may be gone as well, and will ask again.
  IF NOT f.taken AND NOT EXISTS (SELECT FROM ${s}.waiters w WHERE w.key = k) THEN
    IF f.rfence IS NULL OR f.rexp <= now THEN
      DELETE FROM ${s}.flights x WHERE x.key = k;
      RETURN 'true';
    END IF;
    -- Who waited for a former run may still come for its result. A later one is as good.
    expiry := f.rexp;
  END IF;
  INSERT INTO ${s}.flights VALUES (k, '', mine, 0, 0, false, mine, expiry, a->>'payload', expiry)
    ON CONFLICT (key) DO UPDATE SET owner = '', until = 0, taken = false,
      rfence = excluded.rfence, rexp = excluded.rexp, result = excluded.result, dead = excluded.dead;
  PERFORM ${s}.wake(k, 'D ' || mine);
  RETURN 'true';
END $f$;

CREATE OR REPLACE FUNCTION ${s}.release_flight(given text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  a jsonb := given::jsonb;
  k text := ${s}.short(a->>'key');
  now float8 := ${s}.enter('f', k);
BEGIN
  DELETE FROM ${s}.waiters w WHERE w.key = k AND w.party = a->>'party';
  UPDATE ${s}.flights x SET owner = '', until = 0 WHERE x.key = k AND x.owner = a->>'owner';
  IF FOUND AND ${s}.wake(k, 'R') = 0 THEN DELETE FROM ${s}.flights x WHERE x.key = k AND x.rfence IS NULL; END IF;
  RETURN NULL;
END $f$;

CREATE OR REPLACE FUNCTION ${s}.version_${version}() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';`
