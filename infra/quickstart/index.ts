import { Vpc } from '../resources.ts';

const vpc = new Vpc('vpc', { cluster: 'quick', logicalId: 'vpc', cidrBlock: '10.0.0.0/16' });
export const vpcId = vpc.id;
