# escape=`

ARG REPO=mcr.example.org/dotnet/runtime
FROM $REPO:9.0-nanoserver-ltsc2025-amd64

# PowerShell telemetry
ENV `
    # Enable detection of running in a container
    ASPNET_VERSION=9.0.6 `
    DOTNET_RUNNING_IN_CONTAINER=true `
    # Skip extraction of docs
    NUGET_XMLDOC_MODE=skip `
    POWERSHELL_DISTRIBUTION_CHANNEL=PSDocker-DotnetSDK-NanoServer

USER ContainerAdministrator
RUN setx /M PATH "%PATH%;C:\Program Files\dotnet\\" `
    && mkdir C:\data
USER ContainerUser

SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue';"]

RUN $url = 'https://example.org/aspnetcore.zip'; `
    Write-Host ('Downloading {0} ...' -f $url); `
    Invoke-WebRequest -Uri $url -OutFile 'aspnetcore.zip'; `
    `
    if ((Get-FileHash aspnetcore.zip -Algorithm sha512).Hash -ne "$env:sha") { `
        Write-Host 'CHECKSUM VERIFICATION FAILED!'; `
        exit 1; `
    };

COPY --from=installer ["/dotnet/shared/App", "C:/Program Files/dotnet/"]
WORKDIR C:\data
ENTRYPOINT [ "C:\\dotnet.exe" ]
