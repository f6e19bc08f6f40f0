import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { judge, readExpected } from './verdict.mjs';

const place = { leg: '2025-11-25', upstream: 'http' };
const scenario = (...statuses) => ({
  scenario: 's',
  checks: statuses.map((status, index) => ({ id: `check-${index}`, status })),
});
const verdict = (result, expected = []) => judge(result, place, expected).verdict;
const listed = { scenario: 's', reason: 'because' };

test('a scenario passes with a success and nothing else that counts', () => {
  assert.equal(verdict(scenario('SUCCESS', 'INFO', 'SKIPPED')), 'pass');
  assert.equal(verdict(scenario('INFO')), 'nothing');
});

test('a failure or a warning that is not listed is unexpected', () => {
  assert.equal(verdict(scenario('SUCCESS', 'FAILURE')), 'UNEXPECTED FAILURE');
  assert.equal(verdict(scenario('SUCCESS', 'WARNING')), 'UNEXPECTED FAILURE');
});

test('a listed scenario must fail', () => {
  assert.equal(verdict(scenario('FAILURE'), [listed]), 'expected');
  assert.equal(verdict(scenario('SUCCESS'), [listed]), 'UNEXPECTED PASS');
});

test('an entry covers only its legs, upstreams and checks', () => {
  assert.equal(verdict(scenario('FAILURE'), [{ ...listed, legs: ['stable'] }]), 'UNEXPECTED FAILURE');
  assert.equal(verdict(scenario('FAILURE'), [{ ...listed, upstreams: ['stdio'] }]), 'UNEXPECTED FAILURE');
  assert.equal(verdict(scenario('FAILURE'), [{ ...listed, checks: ['check-0'] }]), 'expected');
  assert.equal(verdict(scenario('FAILURE', 'FAILURE'), [{ ...listed, checks: ['check-0'] }]), 'UNEXPECTED FAILURE');
});

test('the checked-in list can be read', () => {
  const entries = readExpected(fileURLToPath(new URL('expected-failures.yaml', import.meta.url)));
  assert.ok(entries.every(({ scenario, reason }) => scenario && reason));
});

test('a list may be empty, and an entry without a reason is refused', (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'expected-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const read = (text) => {
    const file = join(folder, 'list.yaml');
    writeFileSync(file, text);
    return readExpected(file);
  };
  assert.deepEqual(read('expected: []\n'), []);
  assert.deepEqual(read('expected:\n  - { scenario: s, reason: because }\n'), [listed]);
  for (const entry of ['{ scenario: s }', '{ reason: because }']) {
    assert.throws(() => read(`expected:\n  - ${entry}\n`), /lacks its scenario or reason/);
  }
});
