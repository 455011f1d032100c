import { isIP } from "node:net";
import { checkServerIdentity, createSecureContext } from "node:tls";
import { ChannelCredentials, Client } from "@grpc/grpc-js";
import { minTlsVersion } from "@coppice/proto/kit/tls";

/** Whom to call and how both sides prove who they are. */
export interface ChannelOptions {
  /** `https://host:port`. */
  readonly address: string;
  /** Roots to trust (PEM); the system's are not. */
  readonly rootsPem: readonly string[];
  /** The client certificate's chain and key; left out for enrolment. */
  readonly identity?: { readonly certificateChainPem: string; readonly privateKeyPem: string };
}

const maxMessageBytes = 64 << 20;

/** A grpc-js client of one address. Disposing closes it; calls that still run have to be cancelled before. */
export function openChannel({ address, rootsPem, identity }: ChannelOptions): Client & Disposable {
  const context = createSecureContext({
    ca: [...rootsPem],
    minVersion: minTlsVersion,
    ...(identity ? { cert: identity.certificateChainPem, key: identity.privateKeyPem } : {}),
  });
  // TLS has no names that are IP addresses (RFC 6066), so that for one any other name is sent; what is checked stays it.
  const host = new URL(address).hostname.replace(/^\[(.*)\]$/, "$1");
  const isAddress = isIP(host) !== 0;
  const credentials = ChannelCredentials.createFromSecureContext(
    context,
    isAddress ? { checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate) } : {},
  );
  const client = new Client(`dns:${authority(address)}`, credentials, {
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.enable_retries": 0,
    // A service configuration in DNS and a proxy for the web would both be somebody else's idea of this connection.
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_http_proxy": 0,
    // Each try gets a connection of its own; one that is shared between agents of a process would outlive them.
    "grpc.use_local_subchannel_pool": 1,
    ...(isAddress ? { "grpc.ssl_target_name_override": "coppice" } : {}),
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

/** `host:port` of an address; an IPv6 address keeps its brackets. */
function authority(address: string): string {
  const { hostname, port } = new URL(address);
  return `${hostname}:${port || "443"}`;
}
