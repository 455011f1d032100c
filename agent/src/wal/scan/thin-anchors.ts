import type { WalAnchor } from "../../repository/layout.ts";

/** How dense anchors are kept: the first of each so many minutes; 0 keeps them all. */
export interface Density {
  /** Of those of the last seven days. */
  readonly recentMinutes: number;
  /** Of others. */
  readonly olderMinutes: number;
}

const minuteUs = 60_000_000;
const recentForUs = 7 * 24 * 60 * minuteUs;
/** What the catalog thins to as time goes by. */
const usual: Density = { recentMinutes: 0, olderMinutes: 10 };
/** What is old gives way first. */
const doublingsOfOlder = 3;
/** By then one is left of a timeline, before the last seven days and within them. */
const mostDoublings = 40;

/**
 * Thins the anchors of all servers alike until there are no more than `most` of them: of each stretch of time on a timeline
 * the first stays, and of each timeline the last. Gives those that stay, server by server as they came, and how dense they
 * are. `nowUs` is the time of now, in microseconds since 1970.
 */
export function thinAnchors(
  servers: readonly (readonly WalAnchor[])[],
  { most, nowUs }: { readonly most: number; readonly nowUs: number },
): { readonly servers: readonly (readonly WalAnchor[])[]; readonly density: Density; readonly wasCut: boolean } {
  let density = usual;
  let thinned = servers.map((anchors) => thin(anchors, density, nowUs));
  let doublings = 0;
  for (; countOf(thinned) > most && doublings < mostDoublings; doublings++) {
    const { recentMinutes, olderMinutes } = density;
    density = {
      olderMinutes: olderMinutes * 2,
      recentMinutes: doublings < doublingsOfOlder ? 0 : Math.max(1, recentMinutes) * 2,
    };
    thinned = thinned.map((anchors) => thin(anchors, density, nowUs));
  }
  return { servers: thinned, density, wasCut: doublings > 0 };
}

/** Gathers the anchors of one server as a listing names them, without those that `thinAnchors` leaves out of any answer. */
export function openAnchors(nowUs: number): { add(anchor: WalAnchor): void; readonly anchors: readonly WalAnchor[] } {
  const anchors: WalAnchor[] = [];
  return {
    anchors,
    add(anchor) {
      const [before, last] = [anchors.at(-2), anchors.at(-1)];
      const stretch = stretchOf(anchor, usual, nowUs);
      const isOfIt = (one: WalAnchor) =>
        stretch !== undefined && one.timeline === anchor.timeline && stretchOf(one, usual, nowUs) === stretch;
      // The first of a stretch stays; the one after it only while it is the last that is known.
      const isBetween =
        before && last && isOfIt(before) && isOfIt(last) && before.timeUs <= last.timeUs && last.lsn <= anchor.lsn;
      if (isBetween) anchors.pop();
      anchors.push(anchor);
    },
  };
}

function thin(anchors: readonly WalAnchor[], density: Density, nowUs: number): readonly WalAnchor[] {
  const timelines = new Map<number, { readonly firsts: Map<number, WalAnchor>; last: WalAnchor }>();
  const stay = new Set<WalAnchor>();
  for (const anchor of anchors) {
    const known = timelines.get(anchor.timeline) ?? { firsts: new Map<number, WalAnchor>(), last: anchor };
    timelines.set(anchor.timeline, known);
    if (anchor.lsn >= known.last.lsn) known.last = anchor;
    const stretch = stretchOf(anchor, density, nowUs);
    const first = stretch === undefined ? undefined : known.firsts.get(stretch);
    if (stretch === undefined) stay.add(anchor);
    else if (first === undefined || anchor.timeUs < first.timeUs) known.firsts.set(stretch, anchor);
  }
  for (const { firsts, last } of timelines.values()) for (const anchor of [...firsts.values(), last]) stay.add(anchor);
  return anchors.filter((anchor) => stay.has(anchor));
}

/** Of the anchors of a timeline that have the same one the first stays; undefined for one that stays in any case. */
function stretchOf({ timeUs }: WalAnchor, { recentMinutes, olderMinutes }: Density, nowUs: number): number | undefined {
  const time = Number(timeUs);
  // What a clock wrote that was far ahead is not of now.
  if (Math.abs(time - nowUs) > recentForUs) return Math.floor(time / (olderMinutes * minuteUs));
  return recentMinutes === 0 ? undefined : -1 - Math.floor(time / (recentMinutes * minuteUs));
}

function countOf(servers: readonly (readonly WalAnchor[])[]): number {
  return servers.reduce((sum, { length }) => sum + length, 0);
}
