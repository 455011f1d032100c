import { expect, test } from "vitest";
import { acknowledgeEnd, askFor, declareDead, grantTo, type Ownership, type Told, toldTo } from "./ownership.ts";

const hosts = ["hst_1", "hst_2", "hst_3"];
const told = (held: Ownership) => hosts.map((host) => toldTo(held, host)?.is);

/** The owner, told to end. */
function asked(): Ownership {
  return askFor(grantTo("hst_1", 1000), "hst_2", 2000);
}

test("another host is told nothing before the owner has acknowledged, and the owner is told to end", () => {
  expect(told(grantTo("hst_1", 1000))).toEqual(["write", undefined, undefined]);
  expect(told(asked())).toEqual(["end", undefined, undefined]);
  const moved = acknowledgeEnd(asked(), { hostId: "hst_1", endNumber: 2000n }, 3000);
  expect(moved).toEqual({ hostId: "hst_2", number: 3000n, next: undefined, dead: [] });
});

test("an acknowledgement of another number, or of another host, moves nothing", () => {
  expect(acknowledgeEnd(asked(), { hostId: "hst_1", endNumber: 1000n }, 3000)).toBeUndefined();
  expect(acknowledgeEnd(asked(), { hostId: "hst_2", endNumber: 2000n }, 3000)).toBeUndefined();
  const back = askFor(asked(), "hst_1", 2500);
  expect(back).toEqual({ hostId: "hst_1", number: 2500n, next: undefined, dead: [] });
  const again = askFor(back, "hst_2", 2600);
  expect(acknowledgeEnd(again, { hostId: "hst_1", endNumber: 2000n }, 3000)).toBeUndefined();
});

test("who asks last gets it, and an acknowledgement that is on its way counts for that one", () => {
  const other = askFor(asked(), "hst_3", 2500);
  expect(acknowledgeEnd(other, { hostId: "hst_1", endNumber: 2000n }, 3000)?.hostId).toBe("hst_3");
});

test("an owner that is declared dead is told to end until it acknowledges; nobody else can be declared so", () => {
  expect(declareDead(grantTo("hst_1", 1000), "hst_1", 2000)).toBeUndefined();
  expect(declareDead(asked(), "hst_2", 3000)).toBeUndefined();
  const moved = declareDead(asked(), "hst_1", 3000) ?? asked();
  expect(told(moved)).toEqual(["end", "write", undefined]);
  const known = acknowledgeEnd(moved, { hostId: "hst_1", endNumber: 2000n }, 4000) ?? moved;
  expect(told(known)).toEqual([undefined, "write", undefined]);
  // It gets it back like any other.
  const back = declareDead(askFor(moved, "hst_1", 5000), "hst_2", 6000);
  expect(back && told(back)).toEqual(["write", "end", undefined]);
});

test("numbers grow also when the clock goes back", () => {
  const back = askFor(grantTo("hst_1", 9000), "hst_2", 10);
  expect(back.next?.endNumber).toBe(9001n);
  expect(acknowledgeEnd(back, { hostId: "hst_1", endNumber: 9001n }, 20)?.number).toBe(9002n);
});

/** Numbers from 0 to below 1, the same for the same seed. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

test("however late agents hear and answer, two of them write at once only when one was declared dead", () => {
  let moves = 0;
  const broken: string[] = [];
  for (let seed = 1; seed <= 400; seed++) {
    const next = chance(seed);
    const pick = <T>(items: readonly T[]) => items[Math.floor(next() * items.length)];
    let held = grantTo("hst_1", 1000);
    let now = 1000;
    // What each agent holds on its disk, and what it has said that has not arrived yet.
    const holds = new Map<string, Told | undefined>();
    const onTheirWay: { hostId: string; endNumber: bigint }[] = [];
    const declared = new Set<string>();
    for (let step = 0; step < 60; step++) {
      now += Math.floor(next() * 3);
      const host = pick(hosts) ?? "hst_1";
      const before = held;
      const what = next();
      if (what < 0.35) {
        const tells = toldTo(held, host);
        holds.set(host, tells);
        if (tells?.is !== "write") declared.delete(host);
        if (tells?.is === "end") onTheirWay.push({ hostId: host, endNumber: tells.number });
      } else if (what < 0.6) {
        const said = pick(onTheirWay);
        if (said) held = acknowledgeEnd(held, said, now) ?? held;
      } else if (what < 0.9) held = askFor(held, host, now);
      else {
        const after = declareDead(held, host, now);
        if (after) declared.add(host);
        held = after ?? held;
      }
      if (held.hostId !== before.hostId) moves++;
      const told = hosts.filter((one) => toldTo(held, one)?.is === "write");
      const writing = hosts.filter((one) => holds.get(one)?.is === "write" && !declared.has(one));
      const isGrowing = held.number > before.number || (held.hostId === before.hostId && held.number === before.number);
      if (told.length > 1 || writing.length > 1 || !isGrowing) broken.push(`seed ${seed}, step ${step}`);
    }
  }
  expect(broken).toEqual([]);
  expect(moves).toBeGreaterThan(500);
});
