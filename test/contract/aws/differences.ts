export type Endpoint = 'embedded' | 'localstack' | 'moto';

/** Where an endpoint does otherwise than AWS's documentation says, by the check that shows it. The tests hold this table, and docs/aws-differences.md shows it. */
export const differences: Record<string, Partial<Record<Endpoint, string>>> = {
  'calls that are signed with wrong keys are refused': { localstack: 'any keys are taken', moto: 'any keys are taken' },
  'malformed policy documents are refused': { localstack: 'documents are not read', moto: 'documents are not read' },
  'a role is not assumed by whom its trust policy does not name': { localstack: 'every role can be assumed', moto: 'every role can be assumed' },
  'another route to the same destination is refused': { localstack: 'it takes the place of the first', moto: 'it takes the place of the first' },
  'an interface has the address, groups and tags that were asked for, and no two have one address': {
    localstack: 'two interfaces get one address',
    moto: 'two interfaces get one address',
  },
  'RunInstances with a client token that was used launches nothing again': {
    localstack: 'client tokens are ignored: it launches again',
    moto: 'client tokens are ignored: it launches again',
  },
  'a client token with other parameters is refused': { localstack: 'client tokens are ignored', moto: 'client tokens are ignored' },
  'the same client token gives one volume': {
    localstack: 'client tokens are ignored: two volumes are made',
    moto: 'client tokens are ignored: two volumes are made',
  },
  'an image, subnet or instance profile that does not exist is refused': { localstack: 'unknown images launch', moto: 'unknown images launch' },
  'a route leads to an instance, and to nowhere when that is terminated': { localstack: 'the route stays active', moto: 'the route stays active' },
  'a volume has the size, type and tags that were asked for, grows, and does not shrink': { localstack: 'volumes shrink', moto: 'volumes shrink' },
  'a second attachment of a volume is refused': {
    localstack: 'it is accepted, and the state is corrupted',
    moto: 'it is accepted, and the state is corrupted',
  },
  'a volume of another zone is not attached': { localstack: 'it is attached', moto: 'it is attached' },
  'pages of DescribeInstances follow one another without gaps': {
    localstack: 'pages hold reservations, with more instances than were asked for',
    moto: 'pages hold reservations, with more instances than were asked for',
  },
  'launch templates have versions, and one launches instances': { localstack: 'ModifyLaunchTemplate by name answers 500; by id it works' },
  'terminated instances are shown as such, without an address, and free what they had': {
    localstack: 'terminated instances keep their address',
    moto: 'terminated instances keep their address',
  },
  'a network load balancer is provisioning at first, has a name of AWS and an ARN of its type': {
    localstack: 'ARNs of network load balancers say app',
    moto: 'ARNs of network load balancers say app',
  },
  'the same load balancer asked for again is the one there is, and with another scheme it is refused': {
    localstack: 'a second one of that name is made',
    moto: 'a second one of that name is made',
  },
  'a group in use is not deleted, and another listener for a port is refused; the same one again is the one there is': {
    localstack: 'a port gets a second listener',
    moto: 'a port gets a second listener',
  },
  'targets of a group that nothing forwards to are unused': {
    localstack: 'targets are healthy at once, whatever they do',
    moto: 'targets are healthy at once, whatever they do',
  },
  'an instance that does not run cannot be a target': { localstack: 'anything can be a target', moto: 'anything can be a target' },
  'all instances end, and leave no interface': {
    localstack: 'an instance of the corrupted attachment above cannot be terminated',
    moto: 'an instance of the corrupted attachment above cannot be terminated',
  },
};
