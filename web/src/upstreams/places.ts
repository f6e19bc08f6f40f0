// The places that put upstreams in a wanted order, changing as few of them as can be: each is a request of its own.

/** The bounds that the REST API sets. */
const PLACE_MAX = 1_000_000_000

export interface Placed {
  id: string
  sortOrder: number
}

/**
 * What must be changed of `wanted`, which is in the wanted order, for the places to grow from each to the next.
 * Those that stay are as many as can stay; the others are put between them.
 */
export function placesFor(wanted: readonly Placed[]): Placed[] {
  const kept = keepable(wanted)
  const first = kept[0]
  const isKept = new Set(kept)
  let last = first === undefined ? 0 : placeAt(wanted, first) - first - 1
  const places = wanted.map(({ sortOrder }, index) => (last = isKept.has(index) ? sortOrder : last + 1))
  // Past the edge of what a place can be, all begin anew.
  const isOutside = places.some((place) => Math.abs(place) > PLACE_MAX)
  return wanted.flatMap(({ id, sortOrder }, index) => {
    const place = isOutside ? index : (places[index] ?? index)
    return place === sortOrder ? [] : [{ id, sortOrder: place }]
  })
}

const placeAt = (wanted: readonly Placed[], index: number) => wanted[index]?.sortOrder ?? 0

/** Where the longest part stands whose places already grow, by enough for those between them. */
function keepable(wanted: readonly Placed[]): number[] {
  const slack = wanted.map(({ sortOrder }, index) => sortOrder - index)
  const best: { length: number; before: number }[] = []
  let end = -1
  slack.forEach((own, index) => {
    const mine = { length: 1, before: -1 }
    best.forEach(({ length }, earlier) => {
      if ((slack[earlier] ?? 0) <= own && length >= mine.length) {
        mine.length = length + 1
        mine.before = earlier
      }
    })
    best.push(mine)
    if (mine.length > (best[end]?.length ?? 0)) end = index
  })
  const kept: number[] = []
  for (let index = end; index >= 0; index = best[index]?.before ?? -1) kept.unshift(index)
  return kept
}
