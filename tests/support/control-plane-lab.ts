import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import { parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { openLog } from "@coppice/proto/kit/log";
import { enrol } from "../../agent/src/session/enrolment.ts";
import type { Identity } from "../../agent/src/session/identity.ts";
import { type App, openApp } from "../../control-plane/src/app.ts";
import { type Catalog, openCatalog } from "../../control-plane/src/catalog/catalog.ts";
import { openPostgresServer, type PostgresServer } from "./postgres-servers.ts";

/** A control plane in this process, on a PostgreSQL of its own. */
export interface ControlPlaneLab extends AsyncDisposable {
  readonly app: App;
  /** A second view of its catalog, to look and to fill. */
  readonly catalog: Catalog;
  readonly server: PostgresServer;
  readonly databaseUrl: string;
  readonly adminToken: string;
  /** Every line that it has logged so far. */
  readonly logLines: readonly string[];
  client<S extends DescService>(service: S): Client<S>;
  /** Enrols an agent as a host of that name, by the code of the agent. */
  enrol(hostName: string): Promise<Identity>;
  /** Ends the control plane in order and starts another one in its place, at another address. */
  restart(): Promise<void>;
}

/** Starts one; `heartbeatMs` is the pause between signs of life, and a gap in WAL is believed after `gapPatienceMs`. */
export async function openControlPlaneLab({
  heartbeatMs,
  gapPatienceMs = 0,
}: {
  heartbeatMs: number;
  gapPatienceMs?: number;
}): Promise<ControlPlaneLab> {
  await using opening = new AsyncDisposableStack();
  const { signal } = new AbortController();
  const folder = await mkdtemp(join(tmpdir(), "coppice-control-"));
  opening.defer(() => rm(folder, { recursive: true, force: true }));
  const server = opening.use(await openPostgresServer({ major: 15 }));
  const databaseUrl = `postgres://${server.superuser}:${encodeURIComponent(server.password)}@127.0.0.1:${server.port}/postgres`;
  const masterKey = randomBytes(32).toString("base64");
  const logLines: string[] = [];
  const keep = (line: string) => {
    logLines.push(line);
    if (process.env["COPPICE_TEST_LOG"] === "1") process.stderr.write(line);
  };
  const log = openLog({ level: "debug", name: "control-plane", to: { write: keep } });
  const start = () =>
    openApp(
      {
        dataDirectory: folder,
        listen: { host: "127.0.0.1", port: 0 },
        addresses: [],
        databaseUrl,
        masterKey,
        logLevel: "silent",
        heartbeatMs,
      },
      { log, signal, gapPatienceMs },
    );
  let app = await start();
  opening.defer(() => app[Symbol.asyncDispose]());
  const catalog = opening.use(await openCatalog({ url: databaseUrl, signal }));
  const { bootstrap } = app;
  if (bootstrap === undefined || !("value" in bootstrap)) throw new Error("there is no first token");
  const adminToken = bootstrap.value;
  const client = <S extends DescService>(service: S): Client<S> => {
    const transport = createGrpcTransport({
      baseUrl: app.address,
      nodeOptions: { ca: app.caPem },
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${adminToken}`);
          return next(request);
        },
      ],
    });
    return createClient(service, transport);
  };
  const resources = opening.move();
  return {
    get app() {
      return app;
    },
    catalog,
    server,
    databaseUrl,
    adminToken,
    logLines,
    client,
    async enrol(hostName) {
      const { token } = await client(HostService).createEnrolment({ hostName });
      return await enrol(parseEnrolmentToken(token), "0.0.0-test", signal);
    },
    async restart() {
      await app[Symbol.asyncDispose]();
      app = await start();
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
