// From the suite's result files to a verdict: what failed, what was expected to, and what no longer does.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

/** The scenarios of one leg: [{ scenario, checks: [{ id, status, message }] }], in the order of their names. */
export function readResults(dir) {
  return readdirSync(dir)
    .map((folder) => ({ folder, name: /^server-(.*)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(folder)?.[1] }))
    .filter(({ folder, name }) => name && existsSync(join(dir, folder, 'checks.json')))
    .map(({ folder, name }) => {
      const checks = JSON.parse(readFileSync(join(dir, folder, 'checks.json'), 'utf8'));
      return {
        scenario: name,
        checks: checks.map(({ id, status, errorMessage }) => ({ id, status, message: errorMessage })),
      };
    })
    .sort((a, b) => a.scenario.localeCompare(b.scenario));
}

/** The entries of expected-failures.yaml; each needs a reason. */
export function readExpected(file) {
  const entries = parse(readFileSync(file, 'utf8'))?.expected ?? [];
  for (const entry of entries) {
    if (!entry.scenario || !entry.reason) throw new Error(`${file}: an entry lacks its scenario or reason`);
  }
  return entries;
}

const applies = (list, value) => list === undefined || list.includes(value);

/**
 * One scenario's verdict: pass, expected, UNEXPECTED FAILURE, UNEXPECTED PASS, or nothing (no check was made).
 * A warning counts as a failure: the suite warns where the text says SHOULD, and the reference server,
 * called directly, gives none.
 */
export function judge({ scenario, checks }, { leg, upstream }, expected) {
  const failed = checks.filter(({ status }) => status === 'FAILURE' || status === 'WARNING');
  const passed = checks.filter(({ status }) => status === 'SUCCESS').length;
  const entry = expected.find(
    (one) => one.scenario === scenario && applies(one.legs, leg) && applies(one.upstreams, upstream),
  );
  const counts = { passed, failed: failed.length };
  const why = failed.map(({ id, message }) => `${id}: ${(message ?? '').split('\n')[0].slice(0, 160)}`);
  if (!entry) {
    if (failed.length) return { ...counts, verdict: 'UNEXPECTED FAILURE', why };
    return { ...counts, verdict: passed ? 'pass' : 'nothing', why };
  }
  const covered = entry.checks ? failed.every(({ id }) => entry.checks.includes(id)) : true;
  if (!covered) return { ...counts, verdict: 'UNEXPECTED FAILURE', why };
  if (!failed.length && passed) return { ...counts, verdict: 'UNEXPECTED PASS', why: [`listed: ${entry.reason}`] };
  return { ...counts, verdict: 'expected', why };
}
