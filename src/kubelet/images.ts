import type { Logger } from 'pino';
import type { Client } from '../client/client.ts';
import type { Clock } from '../client/clock.ts';
import type { EventRecorder } from '../client/events.ts';
import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Container, Pod } from '../api/generated/types.ts';
import type { Image, Runtime } from '../runtime/cri.ts';
import { Backoff, goDuration } from './backoff.ts';

/** Why an image is not there; reason is the container's waiting reason. retryMs: when trying again makes sense. */
export class ImageError extends Error {
  readonly reason: 'ErrImagePull' | 'ImagePullBackOff' | 'ErrImageNeverPull' | 'InvalidImageName';
  readonly retryMs: number | undefined;
  constructor(reason: ImageError['reason'], message: string, retryMs?: number) {
    super(message);
    this.reason = reason;
    this.retryMs = retryMs;
  }
}

export interface RegistryAuth {
  username?: string;
  password?: string;
  auth?: string;
  identityToken?: string;
  registryToken?: string;
}

/** The registry's host and the rest of an image name, with Docker's defaults filled in. */
export function splitImage(image: string): { registry: string; repository: string; tag: string } {
  const at = image.indexOf('@');
  const named = at < 0 ? image : image.slice(0, at);
  const slash = named.indexOf('/');
  const first = slash < 0 ? '' : named.slice(0, slash);
  const hasRegistry = first.includes('.') || first.includes(':') || first === 'localhost';
  const registry = hasRegistry ? first : 'docker.io';
  let rest = hasRegistry ? named.slice(slash + 1) : named;
  const colon = rest.lastIndexOf(':');
  const tag = colon > rest.lastIndexOf('/') ? rest.slice(colon + 1) : '';
  if (tag) rest = rest.slice(0, colon);
  if (!hasRegistry && !rest.includes('/')) rest = `library/${rest}`;
  return { registry, repository: rest, tag: at < 0 ? tag || 'latest' : tag };
}

/** Credentials for an image out of dockerconfigjson and dockercfg secrets: the most specific matching entry first. */
export function credentialsFor(image: string, configs: Record<string, Record<string, unknown>>[]): RegistryAuth[] {
  const { registry, repository } = splitImage(image);
  const target = `${registry}/${repository}`;
  const found: { key: string; auth: RegistryAuth }[] = [];
  for (const config of configs)
    for (const [rawKey, entry] of Object.entries(config)) {
      const key = rawKey
        .replace(/^https?:\/\//, '')
        .replace(/\/v[12]\/?$/, '')
        .replace(/\/$/, '')
        .replace(/^index\.docker\.io/, 'docker.io');
      const [host = '', ...path] = key.split('/');
      const pattern = new RegExp(`^${host.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '[^.]*')}$`);
      const prefix = path.join('/');
      if (!pattern.test(registry) || (prefix && !target.startsWith(`${registry}/${prefix}`))) continue;
      const text = (name: string) => (typeof entry[name] === 'string' ? (entry[name] as string) : undefined);
      const auth: RegistryAuth = {};
      const encoded = text('auth');
      if (encoded) {
        const [username, ...password] = Buffer.from(encoded, 'base64').toString('utf8').split(':');
        if (username !== undefined) auth.username = username;
        auth.password = password.join(':');
      }
      const username = text('username');
      const password = text('password');
      const identity = text('identitytoken');
      const token = text('registrytoken');
      if (username) auth.username = username;
      if (password) auth.password = password;
      if (identity) auth.identityToken = identity;
      if (token) auth.registryToken = token;
      found.push({ key, auth });
    }
  return found.sort((a, b) => b.key.length - a.key.length).map((f) => f.auth);
}

/** An image that a pod wants: a container's, or that of an image volume. */
export type WantedImage = Pick<Container, 'image' | 'imagePullPolicy'>;

export const pullPolicyOf = (container: WantedImage): string => {
  if (container.imagePullPolicy) return container.imagePullPolicy;
  const image = container.image ?? '';
  return splitImage(image).tag === 'latest' && !image.includes('@') ? 'Always' : 'IfNotPresent';
};

/** Sees to it that images are there before containers start: pull policy, credentials, backoff, events. */
export class ImageManager {
  private readonly runtime: Runtime;
  private readonly client: Client;
  private readonly recorder: EventRecorder;
  private readonly log: Logger;
  private readonly clock: Clock;
  private readonly backoff: Backoff;
  /** One pull at a time for an image; others wait for the same result. */
  private readonly pulls = new Map<string, Promise<string>>();

  constructor(o: { runtime: Runtime; client: Client; recorder: EventRecorder; log: Logger; clock: Clock }) {
    this.runtime = o.runtime;
    this.client = o.client;
    this.recorder = o.recorder;
    this.log = o.log;
    this.clock = o.clock;
    this.backoff = new Backoff(o.clock, 10_000, 300_000);
  }

  /** Resolves to the image; throws ImageError. */
  async ensure(pod: Pod, container: WantedImage, signal: AbortSignal): Promise<Image | undefined> {
    const image = container.image ?? '';
    if (!/^[a-zA-Z0-9][a-zA-Z0-9._\-/:@]*$/.test(image))
      throw new ImageError(
        'InvalidImageName',
        `Failed to apply default image tag "${image}": couldn't parse image name "${image}": invalid reference format`,
      );
    const policy = pullPolicyOf(container);
    const present = await this.runtime.imageStatus(image);
    if (policy === 'Never' || (policy === 'IfNotPresent' && present)) {
      if (present) {
        this.recorder.event(pod, 'Normal', 'Pulled', `Container image "${image}" already present on machine and can be accessed by the pod`);
        return present;
      }
      const message = `Container image "${image}" is not present with pull policy of Never`;
      this.recorder.event(pod, 'Warning', 'ErrImageNeverPull', message);
      throw new ImageError('ErrImageNeverPull', message);
    }
    const key = `${pod.metadata.uid}/${image}`;
    const failedAt = this.failures.get(key);
    const wait = failedAt ? this.backoff.remaining(key, failedAt.at) : 0;
    if (wait > 0) {
      const message = `Back-off pulling image "${image}"`;
      this.recorder.event(pod, 'Normal', 'BackOff', message);
      throw new ImageError('ImagePullBackOff', `${message}: ErrImagePull: ${failedAt!.message}`, wait);
    }
    this.recorder.event(pod, 'Normal', 'Pulling', `Pulling image "${image}"`);
    const started = this.clock.now();
    try {
      await this.pull(image, await this.auths(pod, image), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const message = error instanceof Error ? error.message : String(error);
      this.failures.set(key, { at: this.clock.now(), message });
      this.backoff.next(key, this.clock.now());
      this.log.warn({ image, err: error }, 'image pull failed');
      this.recorder.event(pod, 'Warning', 'Failed', `Failed to pull image "${image}": ${message}`);
      this.recorder.event(pod, 'Warning', 'Failed', 'Error: ErrImagePull');
      // Soon once more, not to pull but to say that it backs off.
      throw new ImageError('ErrImagePull', message, Math.min(1000, this.backoff.remaining(key, this.clock.now())));
    }
    this.failures.delete(key);
    this.backoff.reset(key);
    const result = await this.runtime.imageStatus(image);
    const took = goDuration(this.clock.now() - started);
    const size = result ? ` Image size: ${result.size} bytes.` : '';
    this.recorder.event(pod, 'Normal', 'Pulled', `Successfully pulled image "${image}" in ${took} (${took} including waiting).${size}`);
    return result;
  }

  forgetPod(uid: string): void {
    this.backoff.forget(`${uid}/`);
    for (const key of this.failures.keys()) if (key.startsWith(`${uid}/`)) this.failures.delete(key);
  }

  private readonly failures = new Map<string, { at: number; message: string }>();

  private async pull(image: string, auths: RegistryAuth[], signal: AbortSignal): Promise<string> {
    const attempts: (RegistryAuth | undefined)[] = auths.length > 0 ? auths : [undefined];
    const key = `${image} ${JSON.stringify(attempts)}`;
    const running = this.pulls.get(key);
    if (running) return running;
    const work = (async () => {
      let last: unknown;
      for (const auth of attempts) {
        try {
          return await this.runtime.pullImage(image, auth, signal);
        } catch (error) {
          last = error;
          if (signal.aborted) break;
        }
      }
      throw last;
    })();
    this.pulls.set(key, work);
    try {
      return await work;
    } finally {
      this.pulls.delete(key);
    }
  }

  private async auths(pod: Pod, image: string): Promise<RegistryAuth[]> {
    const configs: Record<string, Record<string, unknown>>[] = [];
    for (const { name } of pod.spec.imagePullSecrets ?? []) {
      if (!name) continue;
      try {
        const secret = await this.client.get(resources.secrets, { namespace: pod.metadata.namespace, name });
        const decode = (text: string) => JSON.parse(Buffer.from(text, 'base64').toString('utf8'));
        if (secret.data?.['.dockerconfigjson']) configs.push(decode(secret.data['.dockerconfigjson']).auths ?? {});
        else if (secret.data?.['.dockercfg']) configs.push(decode(secret.data['.dockercfg']));
      } catch (error) {
        if (isNotFound(error))
          this.recorder.event(
            pod,
            'Warning',
            'FailedToRetrieveImagePullSecret',
            `Unable to retrieve some image pull secrets (${name}); attempting to pull the image may not succeed.`,
          );
        else this.log.warn({ err: error, secret: `${pod.metadata.namespace}/${name}` }, 'cannot read image pull secret');
      }
    }
    return credentialsFor(image, configs);
  }
}
