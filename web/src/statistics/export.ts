// Calls as a file for a spreadsheet, read page by page.
import { csv } from '@/ui/download'
import { pageOfCalls } from './queries'
import type { Filters } from './queries'
import { spanOf } from './range'

const PAGE = 200
/** More than a spreadsheet is pleasant with, and fifty requests. */
export const CALLS_MAX = 10_000

const COLUMNS = [
  'at',
  'method',
  'name',
  'originalName',
  'upstreamName',
  'keyName',
  'transport',
  'era',
  'mode',
  'outcome',
  'latencyMs',
  'bytesIn',
  'bytesOut',
] as const

export async function callsAsCsv({ range, ...filters }: Filters): Promise<{ file: Blob; isCut: boolean }> {
  const span = spanOf(range, Date.now())
  const rows: (string | number | null | undefined)[][] = []
  let cursor: string | undefined
  do {
    const page = await pageOfCalls(filters, { ...span, cursor, limit: PAGE })
    rows.push(...page.items.map((call) => COLUMNS.map((column) => call[column])))
    cursor = page.nextCursor ?? undefined
  } while (cursor && rows.length < CALLS_MAX)
  return { file: csv([...COLUMNS], rows), isCut: cursor !== undefined }
}
