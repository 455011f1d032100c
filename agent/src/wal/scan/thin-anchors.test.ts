import { expect, test } from "vitest";
import type { WalAnchor } from "../../repository/layout.ts";
import { openAnchors, thinAnchors } from "./thin-anchors.ts";

const minuteUs = 60_000_000n;
const nowUs = 1_795_000_50_000_000;

/** One a minute until now, as an archive writes them while WAL moves. */
function anchorsOf(count: number, timeline = 1): WalAnchor[] {
  return Array.from({ length: count }, (_, index) => ({
    timeline,
    lsn: BigInt(index) * 0x23456n,
    timeUs: BigInt(nowUs) - BigInt(count - 1 - index) * minuteUs,
  }));
}

test("of old anchors the first of each ten minutes stays, of those of seven days all, and of each timeline the last", () => {
  const days = 7 * 24 * 60;
  const all = anchorsOf(2 * days);
  const { servers, wasCut } = thinAnchors([all], { most: 1_000_000, nowUs });
  const [thinned = []] = servers;
  const recent = all.slice(-days - 1);
  expect(thinned.slice(-recent.length)).toEqual(recent);
  expect(thinned.length - recent.length).toBe(days / 10 + 1);
  expect(wasCut).toBe(false);
  const old = all.slice(0, 95).map((anchor) => ({ ...anchor, timeline: 2 }));
  const [two = []] = thinAnchors([[...old, ...all]], { most: 1_000_000, nowUs }).servers;
  expect(two.findLast(({ timeline }) => timeline === 2)).toEqual(old.at(-1));
});

test("a listing gathers no more than that, and nothing else", () => {
  const all = [...anchorsOf(30_000), ...anchorsOf(15_000, 2)];
  const gathered = openAnchors(nowUs);
  for (const anchor of all) gathered.add(anchor);
  const most = { most: 1_000_000, nowUs };
  expect(gathered.anchors.length).toBeLessThan(25_500);
  expect(thinAnchors([gathered.anchors], most).servers).toEqual(thinAnchors([all], most).servers);
});

test("the anchors of many servers are thinned together until they fit, first those that are old", () => {
  const gathered = anchorsOf(50_000).filter((_, index) => index % 5 === 0);
  const servers = Array.from({ length: 12 }, () => gathered);
  const fewer = thinAnchors(servers, { most: 50_000, nowUs });
  expect(fewer.servers.flat().length).toBeLessThanOrEqual(50_000);
  expect(fewer).toMatchObject({ wasCut: true, density: { recentMinutes: 0 } });
  const few = thinAnchors(servers, { most: 600, nowUs });
  expect(few.servers.flat().length).toBeLessThanOrEqual(600);
  for (const one of few.servers) expect([one[0], one.at(-1)]).toEqual([gathered[0], gathered.at(-1)]);
});
