FROM node:24

RUN mkdir -p /usr/src/app
WORKDIR /usr/src/app

ONBUILD ARG NODE_ENV
ONBUILD ENV NODE_ENV $NODE_ENV
ONBUILD COPY package.json /usr/src/app/
ONBUILD RUN npm install && npm cache clean --force
ONBUILD COPY --chown=node:node . /usr/src/app
ONBUILD RUN <<EOF
echo last
EOF
onbuild HEALTHCHECK NONE

CMD [ "npm", "start" ]
