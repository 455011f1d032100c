// Longer than most because it is one table: what libpq is told, and what psql and the agent make of it.
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type Endpoint, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { isFailure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openConnection } from "../../agent/src/postgres/connect.ts";
import { type ClientFiles, resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { formatConninfo } from "../../agent/src/postgres/quote.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const password = String.raw`p:a\s's 🌲`;
const signal = AbortSignal.timeout(120_000);
let folder: string;
let server: PostgresServer;

async function shell(script: string): Promise<void> {
  const env = { PATH: "/usr/bin:/bin" };
  const ended = await runProgram("sh", ["-ec", `cd '${folder}'; ${script}`], { env });
  if (ended.code !== 0) throw new Error(ended.stderr);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-connect-"));
  await chmod(folder, 0o755);
  await shell(`
    new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    for ca in root other; do $new -x509 -keyout $ca.key -out $ca.crt -subj "/CN=$ca" 2>/dev/null; done
    $new -keyout server.key -out server.csr -subj "/CN=localhost" 2>/dev/null
    echo "subjectAltName=DNS:localhost" > san
    openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -days 2 -extfile san -out server.crt 2>/dev/null`);
  const scram = (kind: string, user: string) => `${kind} all ${user} ${kind === "local" ? "" : "all "}scram-sha-256`;
  const [key, certificate] = [join(folder, "server.key"), join(folder, "server.crt")];
  // The key has to be the server's own before it starts.
  const { uid, gid } = await serverUser();
  await chown(key, uid, gid);
  await chmod(key, 0o600);
  server = await openPostgresServer({
    major: 18,
    settings: { ssl: "on", ssl_cert_file: certificate, ssl_key_file: key },
    hba: [
      scram("hostssl", "tls_only"),
      scram("hostnossl", "plain_only"),
      scram("host", "either"),
      scram("local", "either"),
      "local all peer_only peer",
      "host all trusted all trust",
      scram("host", "postgres"),
    ],
  });
  const roles = ["tls_only", "plain_only", "either", "peer_only", "trusted"];
  const literal = `E'${password.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
  await server.sql("postgres", roles.map((role) => `create role ${role} login password ${literal};`).join(""));
  await server.sql("postgres", "create database other_db");
  const escaped = password.replaceAll("\\", "\\\\").replaceAll(":", "\\:");
  const address = `host=127.0.0.1\nport=${server.port}\n`;
  const files = {
    ".pgpass": `# comment\nlocalhost:1:*:*:wrong\n127.0.0.1:${server.port}:*:either:${escaped}\nlocalhost:${server.port}:*:*:${escaped}\n`,
    "by-database": `*:*:other_db:*:${escaped}\n*:*:*:either:wrong\n`,
    ".pg_service.conf": `[plain]\n${address}user=either\n# comment\n\n[secure]\nhost=localhost\nport=${server.port}\nuser=either\nsslmode=verify-full\nsslrootcert=${folder}/root.crt\ndbname=other_db\npassword=${password}\n[odd]\n${address}nonsense=1\n`,
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text, { mode: 0o600 });
  await writeFile(join(folder, "open-to-all"), `*:*:*:*:${escaped}\n`, { mode: 0o644 });
  await chmod(join(folder, "open-to-all"), 0o644);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function serverUser(): Promise<{ uid: number; gid: number }> {
  const name = process.getuid?.() === 0 ? "postgres" : "";
  const ask = async (flag: string) =>
    Number((await runProgram("id", [flag, ...(name ? [name] : [])], { env: {} })).stdout);
  return { uid: await ask("-u"), gid: await ask("-g") };
}

/** A row in libpq's own words; PORT, FOLDER and SOCKET are filled in. */
interface Row {
  readonly title: string;
  readonly libpq: Readonly<Record<string, string>>;
  readonly password?: string;
  readonly passwordFile?: string;
  /** A reason, or what the session says of itself: user, database, whether by TLS. */
  readonly expected: string;
}

const tcp = { host: "127.0.0.1", port: "PORT", dbname: "postgres" };
const named = { ...tcp, host: "localhost" };
const noFile = "nothing-here";
const rows: Row[] = [
  { title: "the password of .pgpass", libpq: { ...tcp, user: "either" }, expected: "either postgres tls" },
  {
    title: "the password of .pgpass for localhost",
    libpq: { ...named, user: "tls_only" },
    expected: "tls_only postgres tls",
  },
  {
    title: "a given password before .pgpass",
    libpq: { ...tcp, user: "either" },
    password: "wrong",
    expected: "PASSWORD_REFUSED",
  },
  {
    title: "no password anywhere",
    libpq: { ...tcp, user: "either" },
    passwordFile: noFile,
    expected: "PASSWORD_MISSING",
  },
  {
    title: "a password file open to others",
    libpq: { ...tcp, user: "either" },
    passwordFile: "open-to-all",
    expected: "PASSWORD_MISSING",
  },
  {
    title: "a password by database",
    libpq: { ...tcp, user: "either", dbname: "other_db" },
    passwordFile: "by-database",
    expected: "either other_db tls",
  },
  {
    title: "the wrong database's password",
    libpq: { ...tcp, user: "either" },
    passwordFile: "by-database",
    expected: "PASSWORD_REFUSED",
  },
  {
    title: "a socket with a password",
    libpq: { host: "SOCKET", port: "PORT", dbname: "postgres", user: "either" },
    password,
    expected: "either postgres plain",
  },
  {
    title: "a socket with verify-full, which counts for nothing there",
    libpq: { host: "SOCKET", port: "PORT", dbname: "postgres", user: "either", sslmode: "verify-full" },
    password,
    expected: "either postgres plain",
  },
  {
    title: "peer as another user",
    libpq: { host: "SOCKET", port: "PORT", dbname: "postgres", user: "peer_only" },
    expected: "LOGIN_REFUSED",
  },
  {
    title: "no line in pg_hba.conf",
    libpq: { host: "SOCKET", port: "PORT", dbname: "postgres", user: "tls_only" },
    expected: "LOGIN_REFUSED",
  },
  {
    title: "a database that does not exist",
    libpq: { ...tcp, user: "trusted", dbname: "nowhere" },
    expected: "DATABASE_NOT_FOUND",
  },
  {
    title: "nobody listening",
    libpq: { ...tcp, port: "1", user: "either" },
    password,
    expected: "CLUSTER_UNREACHABLE",
  },
  {
    title: "no such socket",
    libpq: { host: "FOLDER", port: "PORT", dbname: "postgres", user: "either" },
    password,
    expected: "CLUSTER_UNREACHABLE",
  },
  { title: "disable", libpq: { ...tcp, user: "either", sslmode: "disable" }, expected: "either postgres plain" },
  {
    title: "disable where only TLS is let in",
    libpq: { ...tcp, user: "tls_only", sslmode: "disable" },
    password,
    expected: "LOGIN_REFUSED",
  },
  {
    title: "allow where only TLS is let in",
    libpq: { ...tcp, user: "tls_only", sslmode: "allow" },
    password,
    expected: "tls_only postgres tls",
  },
  {
    title: "allow where both are",
    libpq: { ...tcp, user: "either", sslmode: "allow" },
    expected: "either postgres plain",
  },
  {
    title: "prefer where only plain is let in",
    libpq: { ...tcp, user: "plain_only", sslmode: "prefer" },
    password,
    expected: "plain_only postgres plain",
  },
  { title: "require", libpq: { ...tcp, user: "either", sslmode: "require" }, expected: "either postgres tls" },
  {
    title: "require where only plain is let in",
    libpq: { ...tcp, user: "plain_only", sslmode: "require" },
    password,
    expected: "LOGIN_REFUSED",
  },
  {
    title: "require with another root",
    libpq: { ...tcp, user: "either", sslmode: "require", sslrootcert: "FOLDER/other.crt" },
    expected: "TLS_REFUSED",
  },
  {
    title: "verify-ca without a root",
    libpq: { ...tcp, user: "either", sslmode: "verify-ca" },
    expected: "TLS_REFUSED",
  },
  {
    title: "verify-ca",
    libpq: { ...tcp, user: "either", sslmode: "verify-ca", sslrootcert: "FOLDER/root.crt" },
    expected: "either postgres tls",
  },
  {
    title: "verify-ca with another root",
    libpq: { ...tcp, user: "either", sslmode: "verify-ca", sslrootcert: "FOLDER/other.crt" },
    expected: "TLS_REFUSED",
  },
  {
    title: "verify-full",
    libpq: { ...named, user: "either", sslmode: "verify-full", sslrootcert: "FOLDER/root.crt" },
    expected: "either postgres tls",
  },
  {
    title: "verify-full by an address that the certificate does not name",
    libpq: { ...tcp, user: "either", sslmode: "verify-full", sslrootcert: "FOLDER/root.crt" },
    expected: "TLS_REFUSED",
  },
  { title: "a service", libpq: { service: "plain", dbname: "postgres" }, expected: "either postgres tls" },
  { title: "a service with everything", libpq: { service: "secure" }, expected: "either other_db tls" },
  {
    title: "a service whose user is overruled",
    libpq: { service: "secure", user: "tls_only" },
    expected: "tls_only other_db tls",
  },
  { title: "a service that is not there", libpq: { service: "missing" }, expected: "CONNECTION_SERVICE_INVALID" },
  { title: "a service that says what nobody knows", libpq: { service: "odd" }, expected: "CONNECTION_SERVICE_INVALID" },
];

function fill(libpq: Row["libpq"]): Record<string, string> {
  const values = Object.entries(libpq).map(([key, value]) => [
    key,
    value.replace("FOLDER", folder).replace("SOCKET", server.socketDir).replace("PORT", String(server.port)),
  ]);
  return Object.fromEntries(values) as Record<string, string>;
}

async function byPsql(row: Row): Promise<string> {
  const sql =
    "select concat_ws(' ', current_user, current_database(), (select case when ssl then 'tls' else 'plain' end from pg_stat_ssl where pid = pg_backend_pid()))";
  const ended = await runProgram(
    join(server.binDir, "psql"),
    ["-XAtw", "-d", formatConninfo(fill(row.libpq)), "-c", sql],
    {
      env: {
        HOME: folder,
        ...(row.password === undefined ? {} : { PGPASSWORD: row.password }),
        ...(row.passwordFile === undefined ? {} : { PGPASSFILE: join(folder, row.passwordFile) }),
      },
    },
  );
  return ended.code === 0 ? ended.stdout.trim() : "refused";
}

function toEndpoint(libpq: Record<string, string>): Endpoint {
  const { host, port, user, dbname, sslmode, sslrootcert, service } = libpq;
  const address =
    host === undefined
      ? {}
      : {
          address: host.startsWith("/")
            ? { case: "socketDirectory" as const, value: host }
            : { case: "host" as const, value: host },
        };
  return create(EndpointSchema, {
    ...address,
    port: Number(port ?? 0),
    user: user ?? "",
    maintenanceDatabase: dbname ?? "",
    sslmode: sslmode ?? "",
    sslrootcert: sslrootcert ?? "",
    service: service ?? "",
  });
}

async function byAgent(row: Row): Promise<string> {
  const files: ClientFiles = {
    home: folder,
    passwordFile: row.passwordFile === undefined ? undefined : join(folder, row.passwordFile),
  };
  try {
    const endpoint = await resolveEndpoint(toEndpoint(fill(row.libpq)), row.password, files);
    await using connection = await openConnection(endpoint, { signal });
    const { session } = await connection.queryOne<{ session: string }>(
      `select concat_ws(' ', current_user, current_database(), (select case when ssl then 'tls' else 'plain' end
       from pg_stat_ssl where pid = pg_backend_pid())) as session`,
    );
    return session;
  } catch (error) {
    if (!isFailure(error)) throw error;
    if (`${error.message} ${error.hint}`.includes(password)) return "it tells the password";
    return error.reason;
  }
}

test.each(rows.map((row) => [row.title, row] as const))(
  "the agent connects, or is refused, as psql is: %s",
  async (_, row) => {
    expect(await byAgent(row)).toBe(row.expected);
    expect(await byPsql(row)).toBe(/^[A-Z_]+$/.test(row.expected) ? "refused" : row.expected);
  },
);
