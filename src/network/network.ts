/** The pod network of one node, as a CNI plugin would be called by the runtime. */
export interface PodNetwork {
  /** The node's pod CIDR has become known (or is unchanged after a restart). Idempotent. */
  configure(podCidr: string): Promise<void>;
  readonly ready: boolean;
  /**
   * Gives the network namespace at netnsPath an eth0 with an address of the pod CIDR, a default route and its host ports.
   * Idempotent per sandboxId: an address given before is given again.
   */
  add(
    sandboxId: string,
    netnsPath: string,
    ports: { protocol: 'TCP' | 'UDP' | 'SCTP'; containerPort: number; hostPort: number; hostIp?: string }[],
  ): Promise<{ ip: string }>;
  /** Takes it all back. Idempotent, also when the namespace is gone. */
  remove(sandboxId: string, netnsPath: string): Promise<void>;
  /** Frees addresses of sandboxes that are no more. */
  retain(sandboxIds: string[]): Promise<void>;
}
