import { expect, test } from 'vitest'
import { changesOf, fieldsOf, patchOf } from './draft'

const FIELDS = fieldsOf({
  locked: ['mcp_api.mode'],
  mcp_api: { mode: 'full', smart_discovery_limit: 50 },
  statistics: { enabled: true, records_max: null },
})
const UNTOUCHED = {
  'mcp_api.mode': 'full',
  'mcp_api.smart_discovery_limit': '50',
  'statistics.enabled': true,
  'statistics.records_max': '',
}

test('what is locked is no setting, and what was not touched is no change', () => {
  expect(FIELDS).toHaveLength(4)
  expect(changesOf(FIELDS, UNTOUCHED)).toEqual([])
})

test('the patch names what was changed alone, as the kind that it is', () => {
  const typed = { ...UNTOUCHED, 'mcp_api.smart_discovery_limit': '20', 'statistics.enabled': false }
  expect(patchOf(changesOf(FIELDS, typed))).toEqual({
    mcp_api: { smart_discovery_limit: 20 },
    statistics: { enabled: false },
  })
})

test('an emptied field brings the default back', () => {
  const typed = { ...UNTOUCHED, 'mcp_api.smart_discovery_limit': '' }
  expect(patchOf(changesOf(FIELDS, typed))).toEqual({ mcp_api: { smart_discovery_limit: null } })
})
