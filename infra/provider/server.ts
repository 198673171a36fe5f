import * as grpc from '@grpc/grpc-js';
import plugins from '@pulumi/pulumi/proto/plugin_pb.js';
import services from '@pulumi/pulumi/proto/provider_grpc_pb.js';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import statuses from '@pulumi/pulumi/proto/status_pb.js';
import any from 'google-protobuf/google/protobuf/any_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import structs from 'google-protobuf/google/protobuf/struct_pb.js';
import type { Difference, Provider } from './provider.ts';
import { PartialFailure } from './resource.ts';
import { packageSchema } from './schema.ts';
import { type Decoded, decode, encode, type Properties } from './values.ts';

/*
 * The wire of a Pulumi resource provider. The messages come from @pulumi/pulumi/proto, which is internal to it: its version
 * is pinned in package.json.
 */

const { Struct } = structs;
type StructMessage = InstanceType<typeof Struct>;

const read = (struct: StructMessage | undefined): Decoded => decode(struct?.toJavaScript() as Properties | undefined);
const write = (properties: Properties, secrets: ReadonlySet<string>): StructMessage => Struct.fromJavaScript(encode(properties, secrets) as any);
const union = (...sets: ReadonlySet<string>[]): Set<string> => new Set(sets.flatMap((set) => [...set]));
/** The type in a URN: `urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME`. */
const tokenOf = (urn: string): string => urn.split('::')[2]?.split('$').at(-1) ?? '';

/** A failure after which something exists: Pulumi keeps the id and what it is told here. */
function initializationFailed(failure: PartialFailure, properties: StructMessage, inputs: StructMessage): grpc.ServiceError {
  const detail = new messages.ErrorResourceInitFailed();
  detail.setId(failure.made.id);
  detail.setProperties(properties);
  detail.setInputs(inputs);
  detail.setReasonsList([failure.message]);
  const packed = new any.Any();
  packed.pack(detail.serializeBinary(), 'pulumirpc.ErrorResourceInitFailed');
  const status = new statuses.Status();
  status.setCode(grpc.status.UNKNOWN);
  status.setMessage(failure.message);
  status.addDetails(packed);
  const metadata = new grpc.Metadata();
  metadata.add('grpc-status-details-bin', Buffer.from(status.serializeBinary()));
  return Object.assign(new Error(failure.message), { code: grpc.status.UNKNOWN, details: failure.message, metadata });
}

function serviceError(error: unknown): grpc.ServiceError {
  if (error instanceof Error && 'metadata' in error && error.metadata instanceof grpc.Metadata) return error as grpc.ServiceError;
  const message = error instanceof Error ? error.message : String(error);
  const name = (error as { name?: string })?.name;
  const details = name && name !== 'Error' && !message.includes(name) ? `${name}: ${message}` : message;
  return Object.assign(new Error(details), { code: grpc.status.UNKNOWN, details, metadata: new grpc.Metadata() });
}

function checkResponse(inputs: StructMessage, failures: { property: string; reason: string }[]) {
  const response = new messages.CheckResponse();
  response.setInputs(inputs);
  response.setFailuresList(
    failures.map(({ property, reason }) => {
      const failure = new messages.CheckFailure();
      failure.setProperty(property);
      failure.setReason(reason);
      return failure;
    }),
  );
  return response;
}

function diffResponse({ changes, stale }: Difference) {
  const { DiffResponse, PropertyDiff } = messages;
  const response = new DiffResponse();
  const some = changes.length > 0 || stale.length > 0;
  response.setChanges(some ? DiffResponse.DiffChanges.DIFF_SOME : DiffResponse.DiffChanges.DIFF_NONE);
  const top = (path: string) => /^[^.[]+/.exec(path)?.[0] ?? path;
  const replaces = changes.filter((c) => c.replaces);
  response.setReplacesList([...new Set(replaces.map((c) => top(c.path)))]);
  response.setDiffsList([...new Set([...changes.map((c) => top(c.path)), ...stale])]);
  // Names and logical ids are unique, so the old one goes first.
  response.setDeletebeforereplace(replaces.length > 0);
  response.setHasdetaileddiff(true);
  for (const { path, change, replaces: replace } of changes) {
    const detail = new PropertyDiff();
    const name = `${change.toUpperCase()}${replace ? '_REPLACE' : ''}` as keyof typeof PropertyDiff.Kind;
    detail.setKind(PropertyDiff.Kind[name]);
    detail.setInputdiff(true);
    response.getDetaileddiffMap().set(path, detail);
  }
  for (const name of stale) {
    const detail = new PropertyDiff();
    detail.setKind(PropertyDiff.Kind.UPDATE);
    response.getDetaileddiffMap().set(name, detail);
  }
  return response;
}

function configured() {
  const response = new messages.ConfigureResponse();
  response.setAcceptsecrets(true);
  response.setSupportspreview(true);
  return response;
}

type Handler = (request: any) => Promise<unknown>;

/** Pulumi's calls, each a thin coat over the provider's. */
export function rpcHandlers(provider: Provider, version: string): Record<string, Handler> {
  /** Runs a create or update; where it fails half way, Pulumi hears what is there. */
  const keeping = async (token: string, inputs: Decoded, state: Properties, act: () => Promise<{ id?: string; properties: Properties }>) => {
    const secrets = union(inputs.secrets, provider.secretNames(token));
    try {
      const made = await act();
      return { id: made.id ?? '', properties: write(made.properties, secrets) };
    } catch (error) {
      if (!(error instanceof PartialFailure)) throw error;
      throw initializationFailed(
        error,
        write({ ...state, ...inputs.properties, ...error.made.attributes }, secrets),
        write(inputs.properties, secrets),
      );
    }
  };

  return {
    async handshake() {
      const response = new messages.ProviderHandshakeResponse();
      response.setAcceptSecrets(true);
      return response;
    },
    async attach() {
      return new empty.Empty();
    },
    async getPluginInfo() {
      const response = new plugins.PluginInfo();
      response.setVersion(version);
      return response;
    },
    async getSchema() {
      const response = new messages.GetSchemaResponse();
      response.setSchema(JSON.stringify(packageSchema(provider.all, version)));
      return response;
    },
    async checkConfig(request) {
      const news = read(request.getNews());
      return checkResponse(write(news.properties, union(news.secrets, new Set(['secretAccessKey']))), provider.checkConfig(news.properties));
    },
    /** Settings say where AWS is and who asks; another endpoint is another world, which a new stack stands for. */
    async diffConfig() {
      const response = new messages.DiffResponse();
      response.setChanges(messages.DiffResponse.DiffChanges.DIFF_NONE);
      return response;
    },
    async configure(request) {
      provider.configure(read(request.getArgs()).properties);
      return configured();
    },
    async check(request) {
      const token = tokenOf(request.getUrn());
      const news = read(request.getNews());
      const { inputs, failures } = provider.check(token, news.properties);
      return checkResponse(write(inputs, union(news.secrets, provider.secretNames(token))), failures);
    },
    async diff(request) {
      const state = read(request.getOlds()).properties;
      const oldInputs = request.hasOldInputs() ? read(request.getOldInputs()).properties : state;
      return diffResponse(provider.diff(tokenOf(request.getUrn()), state, oldInputs, read(request.getNews()).properties));
    },
    async create(request) {
      const token = tokenOf(request.getUrn());
      const inputs = read(request.getProperties());
      const made = await keeping(token, inputs, {}, () => provider.create(token, inputs.properties, request.getPreview()));
      const response = new messages.CreateResponse();
      response.setId(made.id);
      response.setProperties(made.properties);
      return response;
    },
    async read(request) {
      const token = tokenOf(request.getUrn());
      const [inputs, state] = [read(request.getInputs()), read(request.getProperties())];
      const imported = Object.keys(inputs.properties).length === 0;
      const found = await provider.read(token, request.getId(), imported ? undefined : inputs.properties, state.properties);
      const response = new messages.ReadResponse();
      // No id says that it is gone.
      if (!found) return response;
      const secrets = union(inputs.secrets, state.secrets, provider.secretNames(token));
      response.setId(found.id);
      response.setProperties(write(found.properties, secrets));
      response.setInputs(write(found.inputs, secrets));
      return response;
    },
    async update(request) {
      const token = tokenOf(request.getUrn());
      const [news, state] = [read(request.getNews()), read(request.getOlds())];
      const previous = request.hasOldInputs() ? read(request.getOldInputs()).properties : state.properties;
      const made = await keeping(token, news, state.properties, () =>
        provider.update(token, request.getId(), news.properties, previous, state.properties, request.getPreview()),
      );
      const response = new messages.UpdateResponse();
      response.setProperties(made.properties);
      return response;
    },
    async delete(request) {
      await provider.delete(tokenOf(request.getUrn()), request.getId(), read(request.getProperties()).properties);
      return new empty.Empty();
    },
    async cancel() {
      provider.cancel();
      return new empty.Empty();
    },
  };
}

export interface ProviderServer {
  port: number;
  stop(): void;
}

/** Serves the provider on a free port of loopback. Every call is answered; what this provider lacks is UNIMPLEMENTED. */
export async function serveProvider(provider: Provider, version: string): Promise<ProviderServer> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
  const definition = (services as any).ResourceProviderService as grpc.ServiceDefinition;
  const handlers = rpcHandlers(provider, version);
  const implementation: Record<string, grpc.UntypedHandleCall> = {};
  for (const [name, method] of Object.entries(definition)) {
    const handler = handlers[name];
    const unimplemented = { code: grpc.status.UNIMPLEMENTED, details: `${name} is not a call of this provider`, metadata: new grpc.Metadata() };
    if (method.responseStream) implementation[name] = (call: any) => call.emit('error', unimplemented);
    else if (!handler) implementation[name] = (_call: any, reply: any) => reply(unimplemented);
    else
      implementation[name] = (call: any, reply: any) =>
        handler(call.request).then(
          (response) => reply(null, response),
          (error) => reply(serviceError(error)),
        );
  }
  server.addService(definition, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return {
    port,
    stop: () => {
      server.forceShutdown();
      provider.close();
    },
  };
}
