import { type AwsClients, type AwsConfig, createAwsClients } from '../../src/aws/clients.ts';
import { check, type CheckFailure } from './check.ts';
import { changesOf, type PropertyChange } from './diff.ts';
import { type Made, PartialFailure, type ResourceContext, type ResourceKind } from './resource.ts';
import { type Decoded, hasUnknown, type Properties, unknown } from './values.ts';

/** What `pulumi config` may say, as kumulus:NAME. */
export const configuration: Record<string, { description: string; secret?: boolean }> = {
  region: { description: 'AWS region; else AWS_REGION.' },
  endpoint: { description: "Another endpoint than AWS's own: the embedded AWS, LocalStack, moto; else AWS_ENDPOINT_URL." },
  profile: { description: 'Profile of ~/.aws/credentials; else AWS_PROFILE.' },
  accessKeyId: { description: "Access key; else the SDK's usual places." },
  secretAccessKey: { description: 'Its secret.', secret: true },
};

/** State as Pulumi keeps it: inputs and attributes in one, with the names of what is secret. */
export interface State extends Decoded {
  id: string;
}

export interface Difference {
  changes: PropertyChange[];
  /** Attributes that are renewed. */
  stale: string[];
}

/** The provider without its wire: plain properties in and out. One a process, as Pulumi starts one for each configuration. */
export class Provider {
  private readonly kinds: Map<string, ResourceKind>;
  private readonly stopped = new AbortController();
  private clients: AwsClients | undefined;

  constructor(kinds: ResourceKind[]) {
    this.kinds = new Map(kinds.map((kind) => [kind.token, kind]));
  }

  get all(): ResourceKind[] {
    return [...this.kinds.values()];
  }

  kind(token: string): ResourceKind {
    const kind = this.kinds.get(token);
    if (!kind) throw new Error(`there is no resource type ${token}; there are ${[...this.kinds.keys()].join(', ')}`);
    return kind;
  }

  checkConfig(given: Properties): CheckFailure[] {
    const failures = Object.keys(given)
      .filter((name) => !(name in configuration) && name !== 'version')
      .map((property) => ({ property, reason: `no such setting; there are ${Object.keys(configuration).join(', ')}` }));
    if (Boolean(given['accessKeyId']) !== Boolean(given['secretAccessKey']))
      failures.push({ property: 'secretAccessKey', reason: 'accessKeyId and secretAccessKey go together' });
    return failures;
  }

  configure(settings: Properties): void {
    const value = (name: string) => (typeof settings[name] === 'string' && settings[name] !== '' ? (settings[name] as string) : undefined);
    const region = value('region') ?? process.env['AWS_REGION'] ?? process.env['AWS_DEFAULT_REGION'] ?? 'us-east-1';
    const profile = value('profile');
    if (profile) process.env['AWS_PROFILE'] = profile;
    const [endpoint, accessKeyId, secretAccessKey] = [value('endpoint'), value('accessKeyId'), value('secretAccessKey')];
    const config: AwsConfig = {
      region,
      ...(endpoint ? { endpoint } : {}),
      ...(accessKeyId && secretAccessKey ? { credentials: { accessKeyId, secretAccessKey } } : {}),
    };
    this.clients?.destroy();
    this.clients = createAwsClients(config);
  }

  private context(): ResourceContext {
    if (!this.clients) this.configure({});
    return { clients: this.clients as AwsClients, signal: this.stopped.signal };
  }

  check(token: string, given: Properties): { inputs: Properties; failures: CheckFailure[] } {
    return check(this.kind(token), given);
  }

  diff(token: string, state: Properties, oldInputs: Properties, news: Properties): Difference {
    const kind = this.kind(token);
    return { changes: changesOf(kind, oldInputs, news), stale: kind.stale?.(state) ?? [] };
  }

  /** The names of everything of this kind that must not be shown. */
  secretNames(token: string): Set<string> {
    const kind = this.kind(token);
    return new Set([...Object.entries(kind.properties), ...Object.entries(kind.attributes)].filter(([, s]) => s.secret).map(([name]) => name));
  }

  /** In a preview, attributes are unknown: nothing is asked of AWS. */
  async create(token: string, inputs: Properties, preview: boolean): Promise<{ id: string; properties: Properties }> {
    const kind = this.kind(token);
    if (preview || hasUnknown(inputs)) {
      const attributes = Object.fromEntries(Object.keys(kind.attributes).map((name) => [name, inputs[name] ?? unknown]));
      return { id: '', properties: { ...inputs, ...attributes } };
    }
    return whole(await kind.create(this.context(), inputs), inputs);
  }

  async read(token: string, id: string, inputs: Properties | undefined, state: Properties) {
    const found = await this.kind(token).read(this.context(), id, inputs, state);
    return found && { ...whole(found, found.inputs), inputs: found.inputs };
  }

  /** In a preview, what an update does not change is known. */
  async update(token: string, id: string, inputs: Properties, previous: Properties, state: Properties, preview: boolean): Promise<{ properties: Properties }> {
    const kind = this.kind(token);
    if (preview) {
      const stale = new Set(kind.stale?.(state) ?? []);
      const own = changesOf(kind, previous, inputs).some((c) => !c.path.startsWith('tags'));
      const attributes = Object.entries(kind.attributes).map(([name, schema]) => [
        name,
        stale.has(name) || (schema.changes && own) ? unknown : state[name],
      ]);
      return { properties: { ...inputs, ...Object.fromEntries(attributes) } };
    }
    return whole(await kind.update(this.context(), id, inputs, previous, state), inputs);
  }

  async delete(token: string, id: string, state: Properties): Promise<void> {
    const kind = this.kind(token);
    await kind.delete(this.context(), id, Object.fromEntries(Object.keys(kind.properties).map((name) => [name, state[name]])));
  }

  /** Ends what waits; calls under way fail with Pulumi's word for it. */
  cancel(): void {
    this.stopped.abort(new Error('cancelled'));
  }

  close(): void {
    this.clients?.destroy();
  }
}

/** Pulumi's outputs: what was asked for, and what came of it. */
export const whole = (made: Made, inputs: Properties): { id: string; properties: Properties } => ({
  id: made.id,
  properties: { ...inputs, ...made.attributes },
});

export { PartialFailure };
