import type { PhysicalBackup, RecoveryInput } from "./recovery-input.ts";

/** A backup that recovery can begin with. */
export interface Base {
  /** The newest that is unpacked. */
  readonly backup: PhysicalBackup;
  /** All that are unpacked, the full one first, from one repository. */
  readonly chain: readonly PhysicalBackup[];
}

/** A copy that cannot be used, and why. */
export interface UnusableBackup {
  readonly backup: string;
  readonly repository: string;
  readonly problem: string;
}

/** The backups of the server that can be unpacked, by their chains, and those that cannot. WAL increments are neither. */
export function usableChains(input: RecoveryInput): { bases: Base[]; unusable: UnusableBackup[] } {
  const own = input.backups.filter(({ systemIdentifier }) => systemIdentifier === input.systemIdentifier);
  const bases: Base[] = [];
  const unusable: UnusableBackup[] = [];
  for (const backup of own.filter(({ method }) => method !== "wal")) {
    const chain = followChain(own, backup);
    if (typeof chain === "string") {
      unusable.push({ backup: backup.id, repository: backup.repository, problem: chain });
    } else {
      bases.push({ backup, chain });
    }
  }
  return { bases, unusable };
}

/** The backup that is unpacked for one: itself, or what a WAL increment is replayed from. */
export function unpackedFor(input: RecoveryInput, id: string): string {
  const seen = new Set<string>();
  let backup = input.backups.find((each) => each.id === id);
  while (backup?.method === "wal" && backup.parent !== undefined && !seen.has(backup.id)) {
    seen.add(backup.id);
    const { parent } = backup;
    backup = input.backups.find((each) => each.id === parent);
  }
  return backup?.id ?? id;
}

function followChain(own: readonly PhysicalBackup[], backup: PhysicalBackup): PhysicalBackup[] | string {
  const chain: PhysicalBackup[] = [];
  const seen = new Set<string>();
  let current: PhysicalBackup | undefined = backup;
  while (current !== undefined) {
    const { id, method, parent, complete, state, repository }: PhysicalBackup = current;
    const name = current === backup ? "it" : `its ancestor ${id}`;
    if (seen.has(id)) return `${name} is its own ancestor`;
    seen.add(id);
    if (!complete) return `${name} is not complete`;
    if (state === "DAMAGED") return `${name} is damaged`;
    if (state === "DELETING") return `${name} is being deleted`;
    // A WAL increment between two block increments holds no blocks.
    if (method !== "wal") chain.unshift(current);
    if (method === "full") return chain;
    current = own.find((each) => each.id === parent && each.repository === repository);
    if (current === undefined) return `its ancestor ${parent ?? "of no name"} is not in the same repository`;
  }
  return chain;
}
