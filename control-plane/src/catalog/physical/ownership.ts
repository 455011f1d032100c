/** Who may write WAL of a cluster's server: one agent, by a grant without expiry. */
export interface Ownership {
  /** The owner. It alone may write, and not any more once a next one is named. */
  readonly hostId: string;
  /** Number of its grant; later ones of the same WAL are higher. */
  readonly number: bigint;
  /** To whom it moves, and the number that the owner's acknowledgement has to name; undefined while it is held. */
  readonly next: { readonly hostId: string; readonly endNumber: bigint } | undefined;
  /** Hosts that were declared dead: what they still have to be told, and have not acknowledged. */
  readonly dead: readonly DeadOwner[];
}

/** An owner that was declared dead. */
export interface DeadOwner {
  readonly hostId: string;
  readonly endNumber: bigint;
}

/** What a host's agent is to be told. */
export type Told = { readonly is: "write"; readonly number: bigint } | { readonly is: "end"; readonly number: bigint };

/** A number above every one that was given, and above those of a catalog that was lost: `nowMs` is since 1970. */
function nextNumber({ number, next, dead }: Ownership, nowMs: number): bigint {
  const given = [number, next?.endNumber ?? 0n, ...dead.map(({ endNumber }) => endNumber)];
  const highest = given.reduce((one, other) => (one > other ? one : other));
  const now = BigInt(nowMs);
  return now > highest ? now : highest + 1n;
}

/** A first owner. */
export function grantTo(hostId: string, nowMs: number): Ownership {
  return { hostId, number: BigInt(nowMs), next: undefined, dead: [] };
}

/**
 * Grants it to a host: at once where that is the owner, also when it was to move elsewhere, else once the owner has
 * acknowledged.
 */
export function askFor(held: Ownership, hostId: string, nowMs: number): Ownership {
  if (hostId === held.hostId) return { ...held, number: nextNumber(held, nowMs), next: undefined };
  if (held.next?.hostId === hostId) return held;
  // An acknowledgement of what was asked before is one of this, too: the owner writes nothing more.
  return { ...held, next: { hostId, endNumber: held.next?.endNumber ?? nextNumber(held, nowMs) } };
}

/** Takes in that a host's agent has carried out what the number says; undefined where that changes nothing. */
export function acknowledgeEnd(
  held: Ownership,
  { hostId, endNumber }: DeadOwner,
  nowMs: number,
): Ownership | undefined {
  const { next } = held;
  if (next && hostId === held.hostId && endNumber === next.endNumber) return moved(held, next.hostId, nowMs);
  const dead = held.dead.filter((one) => one.hostId !== hostId || one.endNumber !== endNumber);
  return dead.length < held.dead.length ? { ...held, dead } : undefined;
}

/** Waits for the owner no longer; undefined where nobody waits for that host. */
export function declareDead(held: Ownership, hostId: string, nowMs: number): Ownership | undefined {
  const { next } = held;
  if (next === undefined || hostId !== held.hostId) return undefined;
  const after = moved(held, next.hostId, nowMs);
  return { ...after, dead: [...after.dead, { hostId, endNumber: next.endNumber }] };
}

function moved(held: Ownership, hostId: string, nowMs: number): Ownership {
  const number = nextNumber(held, nowMs);
  // Who owns it again is told so, and no longer to end.
  return { hostId, number, next: undefined, dead: held.dead.filter((one) => one.hostId !== hostId) };
}

/** What a host's agent is to be told; undefined for one that has nothing to do with it. */
export function toldTo({ hostId: owner, number, next, dead }: Ownership, hostId: string): Told | undefined {
  if (hostId === owner) return next ? { is: "end", number: next.endNumber } : { is: "write", number };
  const end = dead.find((one) => one.hostId === hostId);
  return end && { is: "end", number: end.endNumber };
}
