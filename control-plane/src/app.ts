import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { EnrolmentSchema } from "@coppice/proto/gen/coppice/control/v1/host";
import type { Logger } from "pino";
import { type Bootstrap, bootstrap } from "./bootstrap.ts";
import { openCatalog } from "./catalog/catalog.ts";
import { openNotices } from "./catalog/notices.ts";
import { touchOperationsOfHost } from "./catalog/operations/change.ts";
import type { Config, ListenAddress } from "./config.ts";
import { openAuthority } from "./fleet/authority.ts";
import { issueServerCertificate } from "./fleet/certificates.ts";
import { createEnrolment } from "./fleet/enrolment.ts";
import { openDatabase } from "./open-database.ts";
import { failureInterceptor } from "./rpc/failure-interceptor.ts";
import { openGate } from "./rpc/gate.ts";
import type { Enrol } from "./rpc/host-service.ts";
import { routes } from "./rpc/routes.ts";
import { openServer } from "./rpc/server.ts";
import { openReceive } from "./reports/receive.ts";
import { runDesired } from "./operations/desired/run-desired.ts";
import { runDispatcher } from "./operations/dispatcher.ts";
import { runEndSegments } from "./operations/end-segments.ts";
import { reconcile } from "./operations/reconcile.ts";
import { openFleet } from "./fleet/fleet.ts";
import { validationInterceptor } from "./rpc/validation-interceptor.ts";
import { openMasterKey } from "./secrets/master-key.ts";
import { openSealed, seal } from "./secrets/seal.ts";

const pollMs = 2000;
const leastPingMs = 5000;
/** Agents that were away come back in that time, and tell what a catalog lacks that was restored: five minutes as a rule. */
const heartbeatsOfGap = 30;

/** A control plane at work; disposing ends it in order. */
export interface App extends AsyncDisposable {
  /** `https://host:port` of the port it listens on. */
  readonly address: string;
  /** `sha256:` and hex, of the root that people and agents are to trust. */
  readonly caFingerprint: string;
  /** That root, PEM. */
  readonly caPem: string;
  /** The first admin token, at the first start only. */
  readonly bootstrap: Bootstrap | undefined;
}

/**
 * Puts a control plane together: database, catalog, keys, sessions, operations, server. `signal` ends the opening
 * alone. Errors: CONFIGURATION_INVALID, CATALOG_UNREACHABLE, SCHEMA_TOO_NEW, SECRET_UNREADABLE.
 */
export async function openApp(
  config: Config,
  options: {
    log: Logger;
    signal: AbortSignal;
    bootstrapTokenFile?: string | undefined;
    gapPatienceMs?: number;
    catalogSilentMs?: number | undefined;
  },
): Promise<App> {
  const { log, signal } = options;
  await using opening = new AsyncDisposableStack();
  const database = opening.use(await openDatabase(config, signal));
  if (database.embedded !== undefined) {
    log.info({ folder: database.embedded.folder, user: database.embedded.user }, "embedded PostgreSQL started");
  }
  const catalog = opening.use(await openCatalog({ url: database.url, signal, log, silentMs: options.catalogSilentMs }));
  const masterKey = await openMasterKey({ configured: config.masterKey, dataDirectory: config.dataDirectory });
  const authority = await openAuthority(catalog, {
    seal: (id, plaintext) => seal(masterKey, id, plaintext),
    open: (id, sealed) => openSealed(masterKey, id, sealed),
  });
  const operationNotices = opening.use(await openNotices(catalog, "coppice_operation"));
  const agentNotices = opening.use(await openNotices(catalog, "coppice_agent"));
  const operations = { catalog, agentNotices, masterKey, log, pollMs };
  const fleet = opening.use(
    await openFleet({
      catalog,
      log,
      heartbeatMs: config.heartbeatMs,
      callbacks: {
        onHello: (session, hello) => reconcile(operations, session, hello.inFlight),
        serve: async (session) => {
          await Promise.all([
            runDispatcher(operations, session),
            runDesired(operations, session),
            runEndSegments(operations, session),
          ]);
        },
        onReport: openReceive({
          catalog,
          gapPatienceMs: options.gapPatienceMs ?? heartbeatsOfGap * config.heartbeatMs,
          log,
        }),
        onStateChange: (hostId) => catalog.transaction((tx) => touchOperationsOfHost(tx, hostId)),
      },
    }),
  );
  // The port may be the system's choice, so what carries it is made when it is known.
  let addresses: readonly string[] = config.addresses;
  const enrol: Enrol = async (tx, { id, name, labels }) => {
    const made = await createEnrolment(tx, { id, hostName: name, labels, addresses, authority, now: new Date() });
    return create(EnrolmentSchema, {
      id: made.id,
      host: made.host.id,
      hostName: made.host.name,
      token: made.token,
      command: made.command,
      expireTime: timestampFromDate(made.expireTime),
    });
  };
  const tls = await issueServerCertificate(authority.root, serverNames(config), new Date());
  const server = opening.use(
    await openServer({
      ...config.listen,
      tls: { ...tls, clientRootsPem: authority.rootsPem },
      routes: routes({ catalog, masterKey, enrol, authority, fleet, operationNotices, pollMs }),
      interceptors: [failureInterceptor(log), validationInterceptor()],
      gate: openGate({ db: catalog.db, log }),
      checkReady: () => catalog.checkReachable(),
      log,
      // Sessions miss their agents by heartbeats; this is for connections that carry nothing.
      pingMs: Math.max(config.heartbeatMs, leastPingMs),
    }),
  );
  // Agents hear goodbye before their connections end, so that none of them is taken for lost.
  opening.defer(() => fleet[Symbol.asyncDispose]());
  const address = formatAddress({ host: config.listen.host, port: server.port });
  if (addresses.length === 0) addresses = [address];
  // Last, so that a start that fails does not use up the one time that it is shown.
  const firstToken = await bootstrap(catalog, options.bootstrapTokenFile);
  log.info({ address, addresses, fingerprint: authority.fingerprint }, "listening");
  const resources = opening.move();
  return {
    address,
    caFingerprint: authority.fingerprint,
    caPem: authority.root.certificatePem,
    bootstrap: firstToken,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Where a listening port is reached; one that listens everywhere is reached here by loopback. */
function formatAddress({ host, port }: ListenAddress): string {
  if (host === "0.0.0.0") return `https://127.0.0.1:${port}`;
  if (host === "::") return `https://[::1]:${port}`;
  return `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function serverNames({ listen, addresses }: Config): string[] {
  const named = addresses.map((address) => new URL(address).hostname.replace(/^\[|\]$/g, ""));
  return ["localhost", "127.0.0.1", "::1", listen.host, ...named].filter((name) => name !== "0.0.0.0" && name !== "::");
}
